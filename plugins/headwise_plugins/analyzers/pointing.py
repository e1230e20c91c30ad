"""Whether a head's largest weight lies at one fixed place beside the query.

`previous` and its like are shares of attention: half of it on the previous token in every row gives the same number as
all of it in every second row. `points-at-previous`, `points-at-self` and `points-at-next` count rows instead: those
whose largest weight is at that place. A head that does so in nine rows of ten is called positional by Voita et al.

Where several keys share the largest weight none of them stands out, and each is counted in equal parts: with n of them
a row gives 1/n to each. So even attention over n keys gives exactly 1/n, the probability of hitting the place by
drawing a key. Weights are float32, and those within rounding of the largest are as large. Only rows that see such a
key, and another one beside it, are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headwise import Analyzer, hookimpl
from headwise_plugins.analyzers.entropy import has_a_choice
from headwise_plugins.analyzers.offsets import sees, share_at

if TYPE_CHECKING:
    import torch

    from headwise import Block

ROUNDING = 1e-6
"""Weights that fall short of the largest by this share of it, or less, are as large."""


def pointed(block: Block) -> torch.Tensor:
    """Return each row with all of its attention on its largest weight, in equal parts where several are as large.

    Returns:
        float32 (heads, queries, keys); a row sums to 1, or to 0 where it sees nothing.
    """
    return block.once(_pointed)


def _pointed(block: Block) -> torch.Tensor:
    """Go head by head: what one head takes stays in the processor's cache, twice as quick as all at once."""
    import torch

    least = torch.finfo(block.weights.dtype).tiny  # a row that sees nothing points at nothing
    every = torch.empty_like(block.weights)  # (heads, queries, keys)
    for head, weights in zip(every, block.weights, strict=True):
        largest = weights.amax(-1, keepdim=True).clamp(min=least)  # (queries, 1)
        torch.ge(weights, largest * (1 - ROUNDING), out=head)  # (queries, keys): 1 where it is as large
        head.div_(head.sum(-1, keepdim=True).clamp(min=1))
    return every


def points_at(block: Block, offset: int) -> torch.Tensor:
    """Return how much of each row's pointing falls on the key at this offset; float32 (heads, queries), in 0..1."""
    return share_at(replace(block, weights=pointed(block)), (offset,))


def has_the_place(block: Block, offset: int) -> torch.Tensor:
    """Tell which rows see the key at this offset and another one; bool (queries,)."""
    return sees(block, offset) & has_a_choice(block)


def pointing_analyzer(name: str, offset: int, token: str) -> Analyzer:
    """Return the analyzer of one offset.

    >>> pointing_analyzer("points-two-back", -2, "the token two back").summary
    'share of rows whose largest weight is on the token two back'
    """
    place = f"i{offset:+d}" if offset else "i"
    return Analyzer(
        name=name,
        run=partial(points_at, offset=offset),
        rows=partial(has_the_place, offset=offset),
        unit="share",
        bounds=(0, 1),
        summary=f"share of rows whose largest weight is on {token}",
        formula=f"mean over the rows i that see key {place} and another of 1/n where α(i, {place}) is the largest, n "
        "keys being as large, and else 0",
        source="the positional heads of Voita et al. 2019, Analyzing Multi-Head Self-Attention, section 5.1",
        sentence=f"has its largest weight on {token} in {{value}} of the rows",
    )


@hookimpl
def headwise_analyzers() -> Iterable[Analyzer]:
    """Offer `points-at-previous`, `points-at-self` and `points-at-next`."""
    yield pointing_analyzer("points-at-previous", -1, "the previous token")
    yield pointing_analyzer("points-at-self", 0, "the token itself")
    yield pointing_analyzer("points-at-next", 1, "the next token")
