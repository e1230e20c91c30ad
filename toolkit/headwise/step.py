"""What a step of a run made, before it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headwise.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Step:
    """The files of a step, and what run.json tells of it."""

    files: Iterable[str]
    details: Mapping[str, Any]
    stage: RunFolder | None = None
    """Where the files lie until they are moved into the run; None: they are there."""
