"""headwise same-sentence: the heads of a run, those first that keep to their sentence the most."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from headwise import hookimpl


@click.command("same-sentence", short_help="Rank heads by how much they keep to the sentence.")
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    r"""List the heads of RUN, those first whose attention within the sentence exceeds chance the most.

    \b
    Example:
      headwise same-sentence runs/shuihu-passages-reader
    """
    from headwise import open_run

    evidence = open_run(run).evidence()
    rows = evidence[evidence["analyzer"] == "same-sentence"].sort_values("excess", ascending=False, kind="stable")
    for row in rows.to_dict("records"):
        click.echo(f"L{row['layer']}H{row['head']}  {row['value']:.2f}  ({row['chance']:.2f} by chance)")


@hookimpl
def headwise_commands() -> Iterable[click.Command]:
    """Offer `headwise same-sentence`."""
    yield command
