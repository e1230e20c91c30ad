"""headwise's own rules for the role of a head.

A head earns a role by what it does more than even attention would. For each of the patterns below the whole interval
of the excess must lie above a margin of 0.05 (five hundredths of the head's attention), and the q-value below 0.05:

    previous token, self, next token    `previous`, `self`, `next`
    local                               `locality`
    punctuation                         `punctuation-focus`
    first token                         `first-token`
    sentence start                      `sentence-start`

Two patterns hold others: near tokens hold the neighbours and the token itself, sentence starts hold the first token.
The wider role is earned only where no single one of the narrower ones makes up half of its excess.

A head that earns none of these is `even` where the interval of `entropy-share` lies within the same margin of its
chance value: it attends to everything alike. Every other head has no role: no clear pattern.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwise import RoleRules, hookimpl

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 0.05
"""By how much the interval must clear chance, as a share of attention."""
LARGEST_Q = 0.05
"""The share of false roles that is put up with among the roles that are given."""
ROLES = {
    "previous": "previous token",
    "self": "self",
    "next": "next token",
    "locality": "local",
    "punctuation-focus": "punctuation",
    "first-token": "first token",
    "sentence-start": "sentence start",
}
"""Analyzer -> the role that its excess earns."""
HOLDS = {"locality": ("previous", "self", "next"), "sentence-start": ("first-token",)}
"""A wider pattern -> the narrower ones that it holds."""


def assign(evidence: pd.DataFrame) -> list[str]:
    """Return the role that each row of the evidence earns, '' for none, by the rules above."""
    roles = [""] * len(evidence)
    heads: dict[tuple[int, int], dict[str, int]] = {}  # head -> analyzer -> place of the row
    names = zip(evidence["layer"], evidence["head"], evidence["analyzer"], strict=True)
    for place, (layer, head, analyzer) in enumerate(names):
        heads.setdefault((layer, head), {})[analyzer] = place
    excess, low, q = (evidence[name].to_numpy() for name in ("excess", "low", "q"))
    for places in heads.values():
        for analyzer, place in places.items():
            narrower = [places[other] for other in HOLDS.get(analyzer, ()) if other in places]
            clear = low[place] > MARGIN and q[place] < LARGEST_Q
            if analyzer in ROLES and clear and all(excess[other] < excess[place] / 2 for other in narrower):
                roles[place] = ROLES[analyzer]
        spread = places.get("entropy-share")
        if spread is not None and low[spread] > -MARGIN and not any(roles[place] for place in places.values()):
            roles[spread] = "even"
    return roles


@hookimpl
def headwise_roles() -> Iterable[RoleRules]:
    """Offer the rules `headwise`."""
    yield RoleRules(
        name="headwise",
        version="1",
        summary="a role where the interval of the excess clears chance by 0.05 and q is below 0.05",
        assign=assign,
        margin=MARGIN,
    )
