"""Attention between a token and those that go with it: of the same word, of the same place in the next clause, ...

What the partners of each token are is worked out once for a window, from its text; then each block picks the few
weights that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from headwise_plugins.chinese.window_text import WindowText, window_text

if TYPE_CHECKING:
    import torch

    from headwise import Block, Tokens

Pairs = Callable[[WindowText], Iterable[tuple[int, int]]]
"""Gives the pairs of a window, as places of two different tokens; each goes both ways."""


def partner_share(block: Block, pairs: Pairs) -> torch.Tensor:
    """Return the share of each row's attention on the query's partners; float32 (heads, queries), in 0..1."""
    places, seen = _partners(block, pairs)
    weights = block.weights.gather(-1, places.expand(len(block.weights), -1, -1))  # (heads, queries, partners)
    return (weights * seen).sum(-1)


def sees_partner(block: Block, pairs: Pairs) -> torch.Tensor:
    """Tell which rows have a partner of their query in view; bool (queries,)."""
    _, seen = _partners(block, pairs)
    return seen.any(-1)


def _partners(block: Block, pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where each query's partners are among the keys, and whether it sees them; each (queries, partners)."""
    keys = block.visible.shape[-1]
    table = _table(pairs, block.window_tokens).to(block.queries.device)  # (tokens, partners)
    partners = table[block.queries]  # (queries, partners)
    there = (partners >= 0) & (partners < keys)
    places = partners.clamp(0, keys - 1)
    return places, there & block.visible.gather(-1, places)


@lru_cache(maxsize=64)  # of a few windows, for each analyzer; tokens are known again by being the very same
def _table(pairs: Pairs, tokens: Tokens) -> torch.Tensor:
    """Return the partners of each token, ascending, then -1; int64 (tokens, most partners that a token has)."""
    import torch

    partners: list[set[int]] = [set() for _ in tokens.texts]
    for one, other in pairs(window_text(tokens)):
        partners[one].add(other)
        partners[other].add(one)
    most = max(map(len, partners), default=0)
    rows = [sorted(known) + [-1] * (most - len(known)) for known in partners]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), most)
