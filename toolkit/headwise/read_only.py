"""Keeps analyzers from changing what others read after them."""

from __future__ import annotations

from dataclasses import fields, replace

import torch

from headwise.block import Block
from headwise.tokens import Tokens


@torch.inference_mode()
def read_only(block: Block) -> Block:
    """Return the block with tensors that torch lets nobody change in place; only those that are not yet are copied.

    What is made in torch's inference mode cannot be changed outside of it.
    """
    if all(tensor.is_inference() for tensor in (block.weights, block.visible, block.queries, block.tokens.ids)):
        return block
    return replace(
        block,
        weights=block.weights.clone(),
        visible=block.visible.clone(),
        queries=block.queries.clone(),
        tokens=_copied(block.tokens),
        window_tokens=_copied(block.window_tokens),
    )


def _copied(tokens: Tokens) -> Tokens:
    return replace(
        tokens, **{part.name: getattr(tokens, part.name).clone() for part in fields(tokens) if part.name != "texts"}
    )
