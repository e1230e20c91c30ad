"""What claims and their verdicts look like in a table: short texts, the same in the terminal and on the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from headwise.contracts import Claim, Verdict
from headwise.format import format_change, format_interval, format_q, format_value
from headwise.observing.block import HeadName
from headwise.weighing.claims import decide, offered_claims

if TYPE_CHECKING:
    from headwise.registry import Offered, Registry
    from headwise.run import Run

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """A claim with its verdict on one run, as texts."""

    offered: Offered
    claim: Claim
    verdict: Verdict
    unit: str
    """Of the analyzer that decides."""

    @property
    def name(self) -> str:
        """The name of the claim as words."""
        return self.claim.name.replace("-", " ")

    @property
    def head(self) -> str:
        """The head that comes nearest; '–' for a claim that is not about single heads."""
        found = self.verdict
        return NOTHING if found.layer is None or found.head is None else str(HeadName(found.layer, found.head))

    @property
    def number(self) -> str:
        """The head's number."""
        return format_value(self.verdict.value, self.unit)

    @property
    def chance(self) -> str:
        """What the hardest null gives, with its name."""
        return f"{format_value(self.verdict.chance, self.unit)} {self.verdict.null}".strip()

    @property
    def interval(self) -> str:
        """The interval of the excess over that null."""
        low, high = self.verdict.low, self.verdict.high
        return NOTHING if math.isnan(low) else format_interval(low, high, self.unit)

    @property
    def q(self) -> str:
        """The q-value, without its letter."""
        return NOTHING if math.isnan(self.verdict.q) else format_q(self.verdict.q).removeprefix("q ")

    @property
    def cost(self) -> str:
        """What the loss gains without the head; '–' where it was not ablated."""
        return format_change(self.verdict.cost, self.verdict.cost_low, self.verdict.cost_high)


def claim_rows(run: Run, registry: Registry) -> list[ClaimRow]:
    """Decide every claim on a run, and return a row for each.

    Raises:
        RunFolderError: the run was not analyzed.
    """
    verdicts = decide(run, registry)
    units = {entry["name"]: str(entry["unit"]) for entry in run.manifest["steps"]["analyze"]["analyzers"]}
    return [
        ClaimRow(offered, cast(Claim, offered.value), verdict, units.get(verdict.analyzer, ""))
        for offered, verdict in zip(offered_claims(registry), verdicts, strict=True)
    ]
