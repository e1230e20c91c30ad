"""The report format `html`: one page that opens offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headwise import ReportFormat, hookimpl

if TYPE_CHECKING:
    from headwise.contracts import Section
    from headwise.run import Run


@hookimpl
def headwise_formats() -> Iterator[ReportFormat]:
    """Offer the page."""
    yield ReportFormat(name="html", suffix=".html", summary="one page that anybody can open offline", write=write)


def write(run: Run, sections: Sequence[Section], path: Path) -> None:
    """Write the page of a run: what its heads do, the text as they read it, the sections, the method."""
    from headwise_reports.page import page

    path.write_text(page(run, sections), encoding="utf-8", newline="\n")
