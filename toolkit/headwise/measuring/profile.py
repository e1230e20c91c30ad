"""Sums of weights by distance, over everything that is added: the distance profile of each head."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from headwise.observing.block import Block


class ProfileSums:
    """Sums of weights by distance, for every head and the even one, over everything that is added."""

    def __init__(self, heads: int, reach: int) -> None:
        self.reach = reach
        """The largest distance, to either side."""
        self.sums = torch.zeros(heads + 1, 2 * reach + 1, dtype=torch.float64)
        """(heads + 1, distances): distance = query - key, from -reach to reach."""
        self.seeing = torch.zeros(2 * reach + 1, dtype=torch.float64)
        """(distances,): the rows that see a key at that distance."""
        self.rows = 0

    def add(self, block: Block) -> None:
        """Add a block of consecutive query rows whose last head is the even one."""
        queries, keys = block.visible.shape
        if not queries:
            return
        # column c holds key - (query - first query) + queries - 1; distance falls as c grows
        first = self.reach + int(block.queries[0]) + queries - 1
        reached = slice(first - (keys + queries - 2), first + 1)
        self.sums[:, reached] += _diagonals(block.weights).flip(1)
        self.seeing[reached] += _diagonals(block.visible[None].float())[0].flip(0)
        self.rows += queries

    def join(self, other: ProfileSums) -> None:
        """Add the sums of other rows."""
        self.sums += other.sums
        self.seeing += other.seeing
        self.rows += other.rows

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return everything that is kept, to be written to a file."""
        return {"sums": self.sums, "seeing": self.seeing, "rows": torch.tensor(self.rows)}

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> ProfileSums:
        """Return the sums that `tensors` gave."""
        heads, distances = tensors["sums"].shape
        kept = cls(heads - 1, distances // 2)
        kept.sums, kept.seeing, kept.rows = tensors["sums"], tensors["seeing"], int(tensors["rows"])
        return kept

    def when_visible(self) -> torch.Tensor:
        """Return the mean weight at each distance over the rows that see a key there; float64 (heads, distances)."""
        return self.sums[:-1] / self.seeing.clamp(min=1)


def _diagonals(weights: torch.Tensor) -> torch.Tensor:
    """Return the sum along each diagonal; (heads, queries, keys) -> float64 (heads, keys + queries - 1)."""
    heads, queries, keys = weights.shape
    # Rows are shifted against each other by padding and cutting anew, so that a diagonal becomes a column.
    padded = torch.nn.functional.pad(weights, (0, queries))  # (heads, queries, keys + queries)
    skewed = padded.flip(1).flatten(1)[:, : queries * (keys + queries - 1)]
    return skewed.view(heads, queries, keys + queries - 1).sum(1).cpu().double()
