"""What each head does, in one sentence with its number, its chance value and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from headwise.block import HeadName
from headwise.format import format_interval, format_value

if TYPE_CHECKING:
    from headwise.run import Run


@dataclass(frozen=True, slots=True)
class HeadSummary:
    """One head in a sentence."""

    name: HeadName
    role: str
    """The role that it earns; '' for no clear pattern."""
    sentence: str
    rows: tuple[int, ...]
    """The rows of `Run.evidence()` that the sentence speaks of."""


def summarize(run: Run) -> list[HeadSummary]:
    """Say what each head of an analyzed run does, in the order of the heads.

    A head with roles is told by the one with the largest excess. A head without is told by what comes nearest to
    a pattern: the share of attention that exceeds chance the most.
    """
    analyzers = {entry["name"]: entry for entry in run.manifest["steps"]["analyze"]["analyzers"]}
    rows: dict[HeadName, list[_Row]] = {name: [] for name in run.heads}
    for number, values in enumerate(run.evidence().to_dict("records")):
        row = _Row(number, {str(column): value for column, value in values.items()})
        rows[HeadName(row.values["layer"], row.values["head"])].append(row)
    return [_summary(name, of_head, analyzers) for name, of_head in rows.items()]


class _Row(NamedTuple):
    """A row of the evidence with its number."""

    number: int
    values: dict[str, Any]


def _summary(name: HeadName, rows: Sequence[_Row], analyzers: Mapping[str, Mapping[str, Any]]) -> HeadSummary:
    earned = [row for row in rows if row.values["role"]]
    if earned:
        row = max(earned, key=_excess)
        return HeadSummary(name, row.values["role"], f"{name} {_told(row, analyzers)}", (row.number,))
    patterns = {key for key, entry in analyzers.items() if entry["unit"] == "share" and entry.get("sentence")}
    near = [row for row in rows if row.values["analyzer"] in patterns]
    if not near:
        return HeadSummary(name, "", f"{name} shows no clear pattern", ())
    row = max(near, key=_excess)
    sentence = f"{name} shows no clear pattern; nearest: it {_told(row, analyzers)}"
    return HeadSummary(name, "", sentence, (row.number,))


def _excess(row: _Row) -> float:
    return float(row.values["excess"])


def _told(row: _Row, analyzers: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what a row of the evidence says, with its chance value and its interval."""
    name = row.values["analyzer"]
    entry = analyzers.get(name, {})
    unit = str(entry.get("unit", ""))
    value, chance = (format_value(row.values[key], unit) for key in ("value", "chance"))
    low, high = row.values["low"], row.values["high"]
    told = format_interval(low, high, unit)
    interval = "too little text for an interval" if math.isnan(low) else f"interval of the excess {told}"
    # a template is a stranger's text, so the number is put in its place and nothing else of it is carried out
    what = str(entry.get("sentence") or f"has {name} {{value}}").replace("{value}", value)
    return f"{what} ({chance} by chance; {interval})"
