"""Sums over keys of weight times what a key counts, for many analyzers at once.

What counts alike for every query, (keys,), stands side by side in one product with the weights, and what depends on the
query, (queries, keys), in one product for each row; so the weights are read once or twice for all of them.

The first key of the window is left out of the products and added after them: it may have nearly everything, and to
subtract it would cancel. So both readings follow from the same products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from headwise.observing.row_blocks import room

MASKS_AT_ONCE = 16
"""What depends on the query is taken so many at a time: more would cost more time each, and memory."""


@dataclass(frozen=True, slots=True)
class KeySums:
    """What each of some analyzers, by its number, gives for a block."""

    numbers: Mapping[int, int]
    """The number of an analyzer -> its place here."""
    rest: torch.Tensor
    """float32 (analyzers, heads, queries): over all keys but the first of the window."""
    first: torch.Tensor
    """float32 (analyzers, queries): what that key counts."""

    @classmethod
    def of(cls, weights: torch.Tensor, counts: Mapping[int, torch.Tensor], first: int) -> KeySums:
        """Sum up over the keys.

        Args:
            weights: (heads, queries, keys).
            counts: the number of an analyzer -> what each key counts for it, (keys,) or (queries, keys).
            first: the first key of the window.
        """
        every = list(counts.values())
        rest = weights.new_empty(len(every), *weights.shape[:2])
        alike = [place for place, one in enumerate(every) if one.ndim == 1]
        by_query = [place for place, one in enumerate(every) if one.ndim > 1]
        if alike:
            rest[alike] = _alike(weights, [every[place] for place in alike], first)
        for start in range(0, len(by_query), MASKS_AT_ONCE):
            part = by_query[start : start + MASKS_AT_ONCE]
            rest[part] = _by_query(weights, [every[place] for place in part], first)
        of_first = [one[..., first].to(weights).expand(weights.shape[1]) for one in every]  # each (queries,)
        return cls(
            {number: place for place, number in enumerate(counts)},
            rest,
            torch.stack(of_first) if of_first else weights.new_empty(0, weights.shape[1]),
        )

    def with_first(self, weights: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the sums over all keys by analyzer, (heads, queries); `weights` are those of the first key."""
        return self._by_number(torch.addcmul(self.rest, self.first[:, None], weights))

    def without_first(self, heads: Sequence[int], left: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return the sums over the other keys where what these heads have left, (heads, queries), is taken for 1."""
        return self._by_number(self.rest[:, heads] / left)

    def _by_number(self, sums: torch.Tensor) -> dict[int, torch.Tensor]:
        return {number: sums[place] for number, place in self.numbers.items()}


def _alike(weights: torch.Tensor, counts: Sequence[torch.Tensor], first: int) -> torch.Tensor:
    """Return (counts, heads, queries) for counts of (keys,)."""
    columns = torch.stack([one.to(weights) for one in counts], dim=1)  # (keys, counts)
    columns[first] = 0
    return (weights @ columns).permute(2, 0, 1)


def _by_query(weights: torch.Tensor, counts: Sequence[torch.Tensor], first: int) -> torch.Tensor:
    """Return (counts, heads, queries) for counts of (queries, keys)."""
    queries, keys = weights.shape[1:]
    rows = room((queries, len(counts), keys), weights.device)
    for place, one in enumerate(counts):
        rows[:, place] = one
    rows[..., first] = 0
    sums = torch.bmm(weights.transpose(0, 1), rows.transpose(1, 2))  # (queries, heads, counts)
    return sums.permute(2, 1, 0)
