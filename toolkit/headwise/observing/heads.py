"""What a kernel was given and gave, by window and head: people fold these axes, or leave them out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headwise.errors import ObservationError
from headwise.observing.torch_modules import KernelInput


@dataclass(frozen=True, slots=True)
class ByHead:
    """The input of a kernel with an axis for windows and one for heads."""

    query: torch.Tensor
    """(windows, heads, queries, width of a head)."""
    key: torch.Tensor
    """(windows, heads or groups of heads, keys, width of a head)."""
    value: torch.Tensor
    """(windows, heads or groups of heads, keys, width of a head)."""
    mask: torch.Tensor | None
    """Broadcastable to (windows, heads, queries, keys)."""

    @classmethod
    def of(cls, given: KernelInput, windows: int | None, module: torch.nn.Module, name: str) -> ByHead:
        """Arrange what a module gave to the kernel.

        Four axes are (windows, heads, tokens, width), two are (tokens, width) of one head. Three are windows of one
        head where they are as many as the windows that the model reads; otherwise the heads of each window in turn.

        Raises:
            ObservationError: there are more axes, or fewer.
        """
        query, key, value, mask = given[:4]
        axes = query.ndim
        if axes == len(("windows", "heads", "tokens", "width")):
            heads = _packed_heads(module, query, key)
            if heads:
                query = query.reshape(query.shape[0], heads, 1, -1)
                mask = mask.reshape(mask.shape[0], heads, 1, -1) if mask is not None and mask.shape[1] != 1 else mask
            count = max(query.shape[0], key.shape[0])
            every = (count, -1, -1, -1)  # learned queries may be given once for all windows
            return cls(query.expand(every), key.expand(every), value.expand(every), mask)
        if axes == len(("windows and heads", "tokens", "width")):
            folded = max(query.shape[0], key.shape[0])
            count = windows if windows and folded % windows == 0 else 1
            return cls(
                _unfolded(query.expand(folded, -1, -1), count),
                _unfolded(key.expand(folded, -1, -1), count),
                _unfolded(value.expand(folded, -1, -1), count),
                mask if mask is None or mask.ndim < axes or len(mask) == 1 else _unfolded(mask, count),
            )
        if axes == len(("tokens", "width")):
            return cls(query[None, None], key[None, None], value[None, None], mask)
        message = (
            f"{name} attends with {axes} axes; headwise reads (windows, heads, tokens, width): fold the others into "
            "windows, or give the weights to headwise.record"
        )
        raise ObservationError(message)

    def output(self, output: torch.Tensor) -> torch.Tensor:
        """Return what the kernel gave as (windows, heads, queries, width of a head)."""
        return output.reshape(*self.query.shape[:-1], output.shape[-1])


def _unfolded(folded: torch.Tensor, windows: int) -> torch.Tensor:
    """Return (windows, heads, rows, columns) of (windows and heads, rows, columns)."""
    return folded.reshape(windows, -1, *folded.shape[1:])


def _packed_heads(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor) -> int:
    """Return how many heads there are, where some stand in the place of queries; 0 where none do.

    With grouped queries, a single query and a mask, transformers gives the kernel the heads of a group as if they were
    the group's queries, (windows, groups, heads of a group, width).
    """
    size = getattr(module, "num_key_value_groups", 1)  # heads of a group
    heads = getattr(getattr(module, "config", None), "num_attention_heads", None)
    packed = size != 1 and query.shape[2] == size and query.shape[1] == key.shape[1]
    return heads if packed and heads == size * query.shape[1] else 0
