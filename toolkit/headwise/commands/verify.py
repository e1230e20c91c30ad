"""headwise verify: are the files of a run what the run wrote?"""

from __future__ import annotations

from pathlib import Path

import click

from headwise.commands.terminal import json_option, note, quiet_option, show_json
from headwise.errors import RunFolderError


@click.command("verify", short_help="Check every file of a run against its recorded sha256.")
@click.argument("run", type=click.Path(path_type=Path))
@quiet_option
@json_option
def command(run: Path, as_json: bool) -> None:
    """Check every file of RUN against the sha256 that the run recorded.

    \b
    Example:
      headwise verify runs/shuihu-passages-reader
    """
    from headwise.run_folder import RunFolder

    folder = RunFolder.open(run)
    problems = folder.problems()
    if as_json:
        show_json({"run": str(run), "files": len(folder.manifest["files"]), "problems": problems})
    if problems:
        message = f"{run}: {'; '.join(problems)}; make the run again, or fetch the original files"
        raise RunFolderError(message)
    if not as_json:
        click.echo(f"Every file is as the run wrote it: {len(folder.manifest['files'])} in all.")
    missing = [
        step for step in ("tokens", "train", "export", "analyze", "report") if step not in folder.manifest["steps"]
    ]
    if missing:
        note(f"The run is not finished: {', '.join(missing)} still to do.")
