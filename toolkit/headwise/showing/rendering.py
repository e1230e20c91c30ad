"""Runs the renderers over a run, one at a time: one that fails costs only its own sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from headwise.contracts import Picture, Renderer, Section
from headwise.errors import PluginError
from headwise.showing.fonts import drawing_style

if TYPE_CHECKING:
    from headwise.registry import Offered, Registry
    from headwise.run import Run


def render(
    run: Run, registry: Registry, *, strict: bool = False, page_only: bool = False
) -> Iterator[tuple[Renderer, Section]]:
    """Yield every section with the renderer that made it, in the order in which they stand.

    Sections come one at a time, as the renderers make them, in the style of `headwise.showing.fonts.drawing_style`. A
    renderer that raises, or gives something that is no proper section, gives a section marked `failed` that names
    its plugin and its distribution instead of the rest of its own; with `strict` it raises PluginError.
    With `page_only` renderers that are not for the page are left out.
    """
    for offered in sorted(registry.offered("renderer"), key=_place):
        renderer = cast(Renderer, offered.value)
        if renderer.on_page or not page_only:
            for section in _guarded(offered, run, strict=strict):
                yield renderer, section


def _place(offered: Offered) -> tuple[int, str]:
    return cast(Renderer, offered.value).order, offered.name


def _guarded(offered: Offered, run: Run, *, strict: bool) -> Iterator[Section]:
    try:
        with drawing_style():
            sections = iter(cast(Renderer, offered.value).render(run))
        while (section := _next(sections)) is not None:
            yield section
    except Exception as error:
        problem = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        message = f"the renderer '{offered.name}' ({offered.origin}) failed: {problem}"
        if strict:
            raise PluginError(message) from error
        title = f"{offered.name}: this section is missing"
        yield Section(title=title, text=f"{message[:1].upper()}{message[1:]}", failed=True)


def _next(sections: Iterator[Section]) -> Section | None:
    """Return the next section, drawn in headwise's style; None where there is none any more."""
    with drawing_style():
        for section in sections:
            if not isinstance(section, Section):
                message = f"it gave {type(section).__name__} where Section is expected"
                raise PluginError(message)
            _check(section)
            return section
    return None


def _check(section: Section) -> None:
    import pandas as pd

    if not (isinstance(section.title, str) and isinstance(section.text, str) and section.title):
        message = "it gave a section without a title, or with a title or a text that is no string"
        raise PluginError(message)
    if not isinstance(section.table, pd.DataFrame | None):
        message = f"the table of its section '{section.title}' is {type(section.table).__name__}, not a DataFrame"
        raise PluginError(message)
    for picture in section.pictures:
        _check_picture(picture, section.title)


def _check_picture(picture: object, title: str) -> None:
    from matplotlib.figure import Figure

    if not isinstance(picture, Picture) or not isinstance(picture.figure, Figure):
        message = f"its section '{title}' holds something that is no Picture with a matplotlib Figure"
        raise PluginError(message)
    if not picture.name or not picture.description:
        message = f"its section '{title}' holds a picture without a name or without a description"
        raise PluginError(message)
