"""Attention at a fixed place beside the query: the previous token, the token itself, the next one.

The plainest thing a head can do is to look at one place that moves along with it. A head that copies the neighbour
puts nearly all its weight one token back, and later layers build on that. Each number is the weight that a row puts on
one key, so it lies in 0..1, and only rows that have such a key in view are counted: the first token has no previous one
and the last no next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from headwise import Analyzer, hookimpl

if TYPE_CHECKING:
    import torch

    from headwise import Block


def share_at(block: Block, offsets: Sequence[int]) -> torch.Tensor:
    """Return each row's attention on the keys at these offsets from its query, together.

    Picks the few weights that are asked for, so it is quicker than a mask over all of them.

    Args:
        block: the rows.
        offsets: places relative to the query, each once: -1 is the token before it, 1 the token after it.

    Returns:
        float32 (heads, queries), a share in 0..1; a key outside the window counts as 0.
    """
    import torch

    keys = block.queries[:, None] + torch.tensor(offsets, device=block.queries.device)  # (queries, offsets)
    last = block.weights.shape[-1] - 1
    inside = (keys >= 0) & (keys <= last)  # (queries, offsets)
    places = keys.clamp(0, last).expand(len(block.weights), -1, -1)  # (heads, queries, offsets)
    return (block.weights.gather(-1, places) * inside).sum(-1)  # (heads, queries)


def sees(block: Block, offset: int) -> torch.Tensor:
    """Tell which rows have the key at this offset in view; bool (queries,)."""
    keys = block.queries + offset  # (queries,)
    last = block.visible.shape[-1] - 1
    inside = (keys >= 0) & (keys <= last)  # (queries,)
    return inside & block.visible.gather(-1, keys.clamp(0, last)[:, None])[:, 0]


def offset_analyzer(name: str, offset: int, token: str) -> Analyzer:
    """Return the analyzer of one offset.

    >>> offset_analyzer("second-next", 2, "the token after the next").summary
    'share of attention on the token after the next'
    """
    return Analyzer(
        name=name,
        run=partial(share_at, offsets=(offset,)),
        rows=partial(sees, offset=offset),
        unit="share",
        bounds=(0, 1),
        summary=f"share of attention on {token}",
        formula=f"mean over the rows i that see key i{offset:+d} of α(i, i{offset:+d})"
        if offset
        else "mean of α(i, i)",
        source="Clark et al. 2019, What Does BERT Look At?, section 3.1; counting only rows that have such a key",
        sentence=f"puts {{value}} of its attention on {token}",
    )


@hookimpl
def headwise_analyzers() -> Iterable[Analyzer]:
    """Offer `previous`, `self` and `next`."""
    yield offset_analyzer("previous", -1, "the previous token")
    yield offset_analyzer("self", 0, "the token itself")
    yield offset_analyzer("next", 1, "the next token")
