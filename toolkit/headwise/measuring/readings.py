"""The two ways to read a block: with all keys, and without the first key of the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from headwise.contracts import Analyzer
from headwise.errors import PluginError
from headwise.measuring.first_key import first_key, without_first_key
from headwise.measuring.key_sums import KeySums
from headwise.observing.block import Block
from headwise.tables import READINGS


@dataclass(frozen=True, slots=True)
class Reading:
    """A block as it is read, and what follows for the analyzers that tell what a key counts."""

    block: Block
    """The even head is its last."""
    sums: Mapping[int, torch.Tensor]
    """The number of an analyzer -> float32 (heads, queries)."""
    sees: torch.Tensor
    """bool (queries,): which rows may count."""
    left_out: torch.Tensor
    """float64 (own heads, queries): weight on what the reading leaves out; of no heads where that is nothing."""

    def rows(self, analyzer: Analyzer, values: torch.Tensor) -> torch.Tensor:
        """Return which rows count, bool (queries,), from what the analyzer gave.

        Raises:
            PluginError: its `rows` gave something else.
        """
        if analyzer.rows is None:
            return self.sees
        if analyzer.where_seen:  # the even head gives something to every key that it sees
            return self.sees & (values[-1] != 0)
        return self.sees & checked_rows(analyzer.rows(self.block), len(self.sees))


def checked_rows(rows: object, queries: int) -> torch.Tensor:
    """Return the rows that count if they are bool (queries,).

    Raises:
        PluginError: they are something else.
    """
    if not isinstance(rows, torch.Tensor) or rows.dtype != torch.bool or tuple(rows.shape) != (queries,):
        message = "its `rows` must return a bool tensor (queries,)"
        raise PluginError(message)
    return rows


def all_keys(block: Block, own: int, key_sums: KeySums) -> Reading:
    """Read a block as it is; `own` heads of it are the model's own."""
    del own  # every head is read
    every = torch.ones_like(block.queries, dtype=torch.bool)
    nothing = torch.zeros(0, len(every), dtype=torch.float64)
    return Reading(block, key_sums.with_first(block.weights[..., first_key(block)]), every, nothing)


def other_keys(block: Block, own: int, key_sums: KeySums) -> Reading:
    """Read the own heads of a block and the even one without the first key of the window."""
    rest, left_out, left = without_first_key(block, own)
    sums = key_sums.without_first([*range(own), -1], left)
    return Reading(rest, sums, rest.visible.any(-1), left_out.cpu().double())


READ_AS: dict[str, Callable[[Block, int, KeySums], Reading]] = dict(zip(READINGS, (all_keys, other_keys), strict=True))
"""Reading -> how a block is read that way."""
