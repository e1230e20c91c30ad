"""headwise analyze: every analyzer over every window of a run."""

from __future__ import annotations

from pathlib import Path

import click

from headwise.commands.head_table import show_heads
from headwise.commands.terminal import json_option, quiet_option, strict_option


@click.command("analyze", short_help="Measure every head of a run with every installed analyzer.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--engine", default="serial", show_default=True, help="Where the analysis runs, by name (see headwise plugins)."
)
@click.option("--workers", type=click.IntRange(1, 1024), default=2, show_default=True, help="Processes of the engine.")
@quiet_option
@json_option
@strict_option
def command(run: Path, engine: str, workers: int, as_json: bool, strict: bool) -> None:
    """Measure every head of RUN with every installed analyzer, and weigh the evidence.

    Do this again after installing a plugin; then `headwise report RUN` writes the page anew.

    \b
    Example:
      headwise analyze runs/shuihu-passages-reader --engine processes --workers 2
    """
    from headwise.pipeline import Pipeline

    pipeline = Pipeline.resume(run, engine=engine, workers=workers, strict=strict)
    pipeline.analyze()
    show_heads(pipeline.folder, as_json=as_json)
