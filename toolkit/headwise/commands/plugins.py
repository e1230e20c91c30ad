"""headwise plugins: everything that is installed, and where it comes from."""

from __future__ import annotations

import click

from headwise.commands.terminal import json_option, quiet_option, show_json


@click.command("plugins", short_help="List the installed plugins and what they offer.")
@quiet_option
@json_option
def command(as_json: bool) -> None:
    """List every plugin with its distribution and what it offers, and those that were left out with the reason.

    \b
    Example:
      headwise plugins --json
    """
    from headwise.registry import installed

    registry = installed()
    if as_json:
        show_json(
            [
                {
                    "name": plugin.name,
                    "distribution": plugin.distribution,
                    "module": plugin.module,
                    "offers": [{"kind": kind, "name": name} for kind, name in plugin.offers],
                    "problem": plugin.problem or None,
                }
                for plugin in registry.plugins
            ]
        )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("plugin", "distribution", "offers")
    for plugin in registry.plugins:
        offers = ", ".join(f"{kind} {name}" for kind, name in plugin.offers)
        told = f"left out: {plugin.problem}" if plugin.problem else offers
        table.add_row(*map(Text, (plugin.name, plugin.distribution, told)))  # strangers' words are no markup
    Console(highlight=False).print(table)
