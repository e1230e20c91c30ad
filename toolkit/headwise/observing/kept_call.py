"""What is kept of a call until it is walked: queries, keys and mask, in as little memory as is known to suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from headwise.observing.attention_call import AttentionCall, SeenCall


def kept(call: AttentionCall, earlier: Sequence[SeenCall]) -> AttentionCall:
    """Return a call with what has to be kept of it, given the earlier calls of the same pass.

    Where the model keeps no graph, queries and keys are copied unless they are whole tensors: a view would keep what it
    is a view of (queries, keys and values in one tensor, say). Keys are copied whatever the case where they may be a
    buffer that later passes fill further. A mask that an earlier layer has, too, is kept once.
    """
    _, _, queries, keys = call.shape
    return replace(
        call,
        query=_without_the_rest(call.query),
        key=call.key.clone() if keys != queries else _without_the_rest(call.key),
        mask=None if call.mask is None else _known_mask(call.mask, earlier),
    )


def _without_the_rest(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, copied where that frees the memory of what it is a view of."""
    whole = tensor.untyped_storage().nbytes() <= tensor.nbytes
    return tensor if whole or torch.is_grad_enabled() else tensor.clone(memory_format=torch.contiguous_format)


def _known_mask(mask: torch.Tensor, earlier: Sequence[SeenCall]) -> torch.Tensor:
    """Return the same mask of an earlier call, or this one."""
    masks = {id(call.mask): call.mask for call in earlier if isinstance(call, AttentionCall) and call.mask is not None}
    alike = [other for other in masks.values() if _form(other) == _form(mask)]
    for other in alike:
        if (other.data_ptr(), other.stride()) == (mask.data_ptr(), mask.stride()):
            return other
    return next((other for other in alike if torch.equal(other, mask)), mask)


def _form(mask: torch.Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return mask.shape, mask.dtype, mask.device
