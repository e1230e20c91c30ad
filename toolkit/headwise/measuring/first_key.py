"""The reading of a block in which the first key of the window is left out.

The first key often takes nearly everything (an attention sink). Without it the others are made to sum to 1 again, and
what was left out is told beside the number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from headwise.observing.block import Block, even_weights


class WithoutFirstKey(NamedTuple):
    """A block without the first key of its window, and what that key had."""

    block: Block
    """Own heads and the even one."""
    left_out: torch.Tensor
    """float32 (own heads, queries): the weight on the first key."""


def without_first_key(block: Block, own: int) -> WithoutFirstKey:
    """Return the own heads of a block and the even one with the first key of the window hidden.

    The first key is the first token that is no padding. Its weights are 0 and rows are made to sum to 1 again; a row
    that had nothing else stays 0.

    Args:
        block: its last head is the even one.
        own: how many of the first heads are the model's own.
    """
    first = int((~block.tokens.padding).int().argmax())  # 0 where all is padding
    visible = block.visible.clone()  # (queries, keys)
    visible[:, first] = False
    weights = torch.empty_like(block.weights[: own + 1])  # (own heads + 1, queries, keys)
    rest = weights[:own]
    rest.copy_(block.weights[:own])
    rest[..., first] = 0
    sums = rest.sum(-1, keepdim=True)  # (own heads, queries, 1): not 1 - left out, which would cancel
    rest /= sums.masked_fill_(sums == 0, 1)
    weights[-1] = even_weights(visible)
    heads = (*block.heads[:own], block.heads[-1])
    return WithoutFirstKey(replace(block, weights=weights, heads=heads, visible=visible), block.weights[:own, :, first])
