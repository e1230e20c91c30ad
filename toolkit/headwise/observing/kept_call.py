"""What is kept of a call until it is walked: queries, keys and mask, in as little memory as is known to suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from headwise.observing.attention_call import AttentionCall, SeenCall


def kept(call: AttentionCall, earlier: Sequence[SeenCall]) -> AttentionCall:
    """Return a call with what has to be kept of it, given the earlier calls of the same pass.

    Where the model keeps no graph, they are copied unless they are whole tensors: a view would keep what it is a view
    of (queries, keys and values in one tensor, say). Keys are laid out as products with queries read them best; they
    are copied whatever the case where they may be a buffer that later passes fill further. A mask that an earlier layer
    has, too, is kept once.
    """
    _, _, queries, keys = call.shape
    graph = torch.is_grad_enabled()
    query, key = call.query, call.key
    if not graph and query.untyped_storage().nbytes() > query.nbytes:
        query = query.clone()
    if not graph or keys != queries:
        key = key.transpose(-2, -1).contiguous().transpose(-2, -1)
    if key.data_ptr() == call.key.data_ptr() and keys != queries:
        key = key.clone()
    return replace(call, query=query, key=key, mask=None if call.mask is None else _known_mask(call.mask, earlier))


def _known_mask(mask: torch.Tensor, earlier: Sequence[SeenCall]) -> torch.Tensor:
    """Return the same mask of an earlier call, or this one."""
    for call in earlier:
        other = call.mask if isinstance(call, AttentionCall) else None
        if other is None or (other.shape, other.dtype, other.device) != (mask.shape, mask.dtype, mask.device):
            continue
        if (other.data_ptr(), other.stride()) == (mask.data_ptr(), mask.stride()) or torch.equal(other, mask):
            return other
    return mask
