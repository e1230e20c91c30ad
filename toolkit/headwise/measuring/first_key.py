"""The reading of a block in which the first key of the window is left out.

The first key often takes nearly everything (an attention sink). Without it the others are made to sum to 1 again, and
what was left out is told beside the number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from headwise.observing.block import Block, even_weights, few_heads
from headwise.observing.row_blocks import room


class WithoutFirstKey(NamedTuple):
    """A block without the first key of its window, and what that key had."""

    block: Block
    """Own heads and the even one."""
    left_out: torch.Tensor
    """float32 (own heads, queries): the weight on the first key."""
    left: torch.Tensor
    """float32 (own heads + 1, queries): what the other keys had together, the even head last; 1 where it is nothing."""


def first_key(block: Block) -> int:
    """Return the place of the first key of the window that is no padding; 0 where all is padding."""
    return int((~block.tokens.padding).int().argmax())


def without_first_key(block: Block, own: int) -> WithoutFirstKey:
    """Return the own heads of a block and the even one with the first key of the window hidden.

    The first key is the first token that is no padding. Its weights are 0 and rows are made to sum to 1 again; a row
    that had nothing else stays 0.

    Args:
        block: its last head is the even one.
        own: how many of the first heads are the model's own.
    """
    first = first_key(block)
    visible = block.visible.clone()  # (queries, keys)
    visible[:, first] = False
    weights = room((own + 1, *visible.shape), visible.device)  # (own heads + 1, queries, keys)
    left = torch.empty_like(weights[..., 0])  # (own heads + 1, queries)
    for part in few_heads(block.weights[:own]):
        others = weights[:own][part].copy_(block.weights[:own][part])  # (some heads, queries, keys)
        others[..., first] = 0
        sums = others.sum(-1, keepdim=True)  # not 1 - left out, which would cancel
        others /= sums.masked_fill_(sums == 0, 1)
        left[:own][part] = sums[..., 0]
    even = block.weights[-1].sum(-1) - block.weights[-1, :, first]  # of so few parts that it does not cancel
    left[-1] = even.masked_fill_(even == 0, 1)
    weights[-1] = even_weights(visible)
    heads = (*block.heads[:own], block.heads[-1])
    rest = replace(block, weights=weights, heads=heads, visible=visible)
    return WithoutFirstKey(rest, block.weights[:own, :, first], left)
