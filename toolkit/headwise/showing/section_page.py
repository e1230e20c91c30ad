"""Writes a page that is not of one run, such as a comparison, in the format that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwise.contracts import ReportFormat, Section
from headwise.errors import SettingsError
from headwise.run_folder import writing


def write_page(report_format: ReportFormat, path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all.

    Raises:
        SettingsError: the format can only write the report of a run.
        RunFolderError: the file cannot be written.
    """
    if report_format.write_sections is None:
        message = f"the report format '{report_format.name}' can only write the report of one run; use --format html"
        raise SettingsError(message)
    with writing(path) as temporary:
        report_format.write_sections(title, lead, sections, temporary)
