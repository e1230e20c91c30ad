"""headwise run: everything in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from headwise.commands.head_table import show_heads
from headwise.commands.seed_table import run_and_show_seeds
from headwise.commands.settings_options import analysis_options, default_output, settings_of, settings_options
from headwise.commands.terminal import json_option, quiet_option, strict_option


@click.command("run", short_help="Do everything: train, export, analyze, report.")
@settings_options
@analysis_options
@click.option("--seeds", type=click.IntRange(2, 1000), help="Make so many runs, from --seed on; tell what returns.")
@quiet_option
@json_option
@strict_option
def command(
    output: Path | None,
    config: Path | None,
    engine: str,
    workers: int,
    memory: int | None,
    seeds: int | None,
    as_json: bool,
    strict: bool,
    **given: Any,
) -> None:
    """Train a model on CORPUS, measure what each of its heads does, and write one HTML page.

    CORPUS is a name that `headwise corpora` lists, or a file or folder of yours (.txt, .md, .jsonl, .csv, .tsv,
    .parquet); without it the three passages of 水滸傳 are taken. The same command continues a run that was cut.

    \b
    Examples:
      headwise run
      headwise run shuihu --steps 1500
      headwise run poems.txt --split paragraph --recipe article --output runs/poems
      headwise run shuihu --seeds 3
    """
    settings = settings_of(config, given)
    output = output or default_output(settings, seeds)
    how: dict[str, Any] = {"engine": engine, "workers": workers, "memory": memory, "strict": strict}
    if seeds is not None:
        run_and_show_seeds(settings, output, seeds, as_json=as_json, **how)
        return
    from headwise.pipeline import Pipeline

    pipeline = Pipeline.begin(settings, output, **how)
    pipeline.run()
    show_heads(pipeline.folder, as_json=as_json)
