"""Writes every picture of every renderer as a file of its own."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headwise import progress
from headwise.errors import PluginError
from headwise.registry import PluginWarning
from headwise.run_folder import writing
from headwise.showing.fonts import drawing_style
from headwise.showing.rendering import render

if TYPE_CHECKING:
    from headwise.contracts import Picture
    from headwise.registry import Registry
    from headwise.run import Run

FigureFormat = Literal["png", "svg", "pdf"]

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\s]+')
_LONGEST_NAME = 200  # bytes; file systems allow 255, and a file under way has a longer name
# The same picture gives the same bytes: no dates, no versions.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def write_figures(
    run: Run, output: Path, figure_format: FigureFormat, registry: Registry, *, strict: bool = False
) -> list[Path]:
    """Write every picture of every renderer, those that are not for the page too, and return the files.

    A file appears whole or not at all, and needs no font of the reader's: letters are in it as outlines. A renderer
    that fails costs only its own pictures and is told by a `PluginWarning`; with `strict` it raises PluginError.
    """
    written: dict[Path, str] = {}
    with progress.task("Drawing") as task:
        for renderer, picture in _pictures(run, registry, strict=strict):
            path = output / f"{file_name(picture.name)}.{figure_format}"
            try:
                if path in written:
                    message = f"its picture '{picture.name}' has the file name of one of '{written[path]}'"
                    raise PluginError(message)  # noqa: TRY301
                content = _encoded(picture, figure_format)
            except Exception as error:  # noqa: BLE001  # a stranger's figure may fail when it is drawn
                message = f"the renderer '{renderer}' failed at its picture '{picture.name}': {error}"
                _tell(message, error, strict=strict)
                continue
            with writing(path) as temporary:
                temporary.write_bytes(content)
            written[path] = renderer
            task.advance()
    return list(written)


def file_name(name: str) -> str:
    """Return the name of a picture as a file name, without its ending: letters of any script stay.

    >>> file_name('heat map: 第一回/a')
    'heat-map-第一回-a'
    """
    safe = _UNSAFE.sub("-", name).strip("-.") or "picture"
    if len(safe.encode()) <= _LONGEST_NAME:
        return safe
    return f"{safe.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _pictures(run: Run, registry: Registry, *, strict: bool) -> Iterator[tuple[str, Picture]]:
    for renderer, section in render(run, registry, strict=strict):
        if section.failed:
            _tell(section.text, None, strict=strict)
        for picture in section.pictures:
            yield renderer.name, picture


def _tell(message: str, error: Exception | None, *, strict: bool) -> None:
    if strict:
        raise PluginError(message) from error
    warnings.warn(message, PluginWarning, stacklevel=3)


def _encoded(picture: Picture, figure_format: FigureFormat) -> bytes:
    import matplotlib as mpl

    written = io.BytesIO()
    # Compressing a PNG as hard as matplotlib does takes longer than drawing it, for a few percent.
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 2}} if figure_format == "png" else {}
    with drawing_style(), mpl.rc_context({"svg.fonttype": "path", "pdf.fonttype": 3}):
        picture.figure.savefig(written, format=figure_format, metadata=_METADATA[figure_format], **options)
    return written.getvalue()
