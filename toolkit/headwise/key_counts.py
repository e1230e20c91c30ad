"""What follows from `keys`, which tells what each key counts: the number of a row, and which rows see such a key.

Nothing here imports torch at run time, as in `headwise.contracts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from headwise.observing.block import Block


@dataclass(frozen=True, slots=True)
class SumOverKeys:
    """The `run` of an analyzer that has `keys`: each row's weights times what their keys count, added up."""

    keys: Callable[[Block], torch.Tensor]

    def __call__(self, block: Block) -> torch.Tensor:
        """Return float32 (heads, queries)."""
        counts = self.keys(block).to(block.weights)  # (keys,) or (queries, keys)
        return (block.weights * counts).sum(-1)


@dataclass(frozen=True, slots=True)
class SeesCounting:
    """The `rows` of an analyzer that has `where_seen`: those that see a key that counts."""

    keys: Callable[[Block], torch.Tensor]

    def __call__(self, block: Block) -> torch.Tensor:
        """Return bool (queries,)."""
        return (block.visible & (self.keys(block) != 0)).any(-1)
