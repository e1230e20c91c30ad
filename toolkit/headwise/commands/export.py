"""headwise export: the attention of a run as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from headwise.commands.terminal import json_option, quiet_option, show_json


@click.command("export", short_help="Write the attention of a run as Parquet.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.Choice(["all", "sample", "none"]),
    help="Windows whose weights are kept in full [default: as the run was made]",
)
@quiet_option
@json_option
def command(run: Path, keep: Literal["all", "sample", "none"] | None, as_json: bool) -> None:
    """Write the attention of RUN as Parquet, one row group a document, for pandas, DuckDB, Polars or anything else.

    \b
    Example:
      headwise export runs/shuihu-passages-reader --keep all
    """
    from headwise.pipeline import Pipeline

    pipeline = Pipeline.resume(run)
    pipeline.export(keep or pipeline.settings.keep)
    files = pipeline.folder.files_of("export")
    size = sum(path.stat().st_size for path in files)
    step = pipeline.folder.manifest["steps"]["export"]
    if as_json:
        show_json(
            {"run": str(run), "files": [str(path) for path in files], "bytes": size, "windows": len(step["kept"])}
        )
    else:
        click.echo(f"{len(step['kept'])} of {step['windows']} windows, {size:,} bytes: {run / 'attention'}")
