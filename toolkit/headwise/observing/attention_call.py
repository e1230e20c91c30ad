"""One call of torch's attention kernel, and the weights that it computed and did not give."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch

from headwise.observing.sight import Sight


@dataclass(slots=True)
class CallSite:
    """Where a call was made."""

    name: str
    """The name of the module that made it, within the model."""
    cross: bool = False
    """Whether its keys are of another text than its queries; known for certain once the module has left."""


class SeenCall(Protocol):
    """What blocks are made of: the attention of one layer."""

    @property
    def site(self) -> CallSite:
        """Where it was."""

    @property
    def layer(self) -> str:
        """The name of the module."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Windows, heads, queries, keys."""

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these query rows of a window may see, bool (rows, keys)."""

    def weights(self, window: int, rows: slice, visible: torch.Tensor, out: torch.Tensor) -> None:
        """Write the weights of these query rows into `out`, float32 (heads, rows, keys); `visible` is (rows, keys)."""


@dataclass(frozen=True, slots=True)
class QueriesAndKeys:
    """What weights are computed from, whatever lies between: queries and keys of a layer."""

    site: CallSite
    query: torch.Tensor
    """(windows, heads, queries, width of a head)."""
    key: torch.Tensor
    """(windows, heads or groups of heads, keys, width of a head)."""

    @property
    def layer(self) -> str:
        """The name of the module that made the call."""
        return self.site.name

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Windows, heads, queries, keys."""
        windows, heads, queries, _ = self.query.shape
        return windows, heads, queries, self.key.shape[-2]

    def ready(self, window: int) -> Self:
        """Return the call with queries and keys of one window ready to be multiplied; it knows no other window."""
        return replace(
            self,
            query=self.query[window].float().expand(self.query.shape),
            key=ready_key(self.key[window]).expand(self.key.shape),
        )


@dataclass(frozen=True, slots=True)
class AttentionCall(QueriesAndKeys):
    """One call of torch's attention kernel: what it takes to compute its weights."""

    mask: torch.Tensor | None
    """bool (True: may be seen) or float (added to the scores), broadcastable to (windows, heads, queries, keys)."""
    causal: bool
    scale: float

    @property
    def sight(self) -> Sight:
        """What its mask lets its queries see."""
        return Sight(self.layer, self.query.shape[-2], self.key.shape[-2], self.mask, self.causal, self.query.device)

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these query rows of a window may see, bool (rows, keys)."""
        return self.sight.visible(window, rows)

    def weights(self, window: int, rows: slice, visible: torch.Tensor, out: torch.Tensor) -> None:
        """Write the weights of these query rows into `out`, float32 (heads, rows, keys)."""
        query = self.query[window, :, rows].float() * self.scale  # (heads, rows, width)
        key = self.key[window, :, : out.shape[-1]]  # (groups, keys, width)
        write_weights(query, key, self.sight.bias(window, rows), visible, out)


def write_weights(
    query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor | None, visible: torch.Tensor, out: torch.Tensor
) -> None:
    """Write the softmax of the scores over what is visible into `out`, float32 (heads, rows, keys), contiguous.

    Only keys between the first and the last that some row sees are multiplied, and the mask is laid only where it hides
    something from a row. A row that sees nothing has the weight 0 everywhere.

    Args:
        query: float32 (heads, rows, width), scaled.
        key: (groups, keys, width); consecutive heads share the keys of a group.
        bias: added to the scores, broadcastable to (heads, rows, keys or more).
        visible: bool (rows, keys).
        out: where the weights go.
    """
    heads, rows, keys = out.shape
    sees = visible.view(torch.uint8)  # bytes are compared many times faster than bools
    seen = sees.amax(0).nonzero().flatten()
    first, stop = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
    if first == stop:
        out.zero_()
        return
    whole = stop - first == keys
    part = out if whole else out.new_empty(heads, rows, stop - first)  # (heads, rows, keys from first to stop)
    groups = len(key)
    torch.bmm(
        query.reshape(groups, heads // groups * rows, query.shape[-1]),
        key[:, first:stop].float().transpose(-2, -1),
        out=part.view(groups, heads // groups * rows, stop - first),
    )
    if bias is not None:
        part += bias[..., first:stop] if bias.shape[-1] > 1 else bias
    holes = (sees[:, first:stop].amin(0) == 0).nonzero().flatten()
    if len(holes):
        some = slice(int(holes[0]), int(holes[-1]) + 1)
        part[..., some].masked_fill_(~visible[:, first:stop][:, some], -math.inf)
    torch.softmax(part, dim=-1, out=part)
    sighted = sees.amax(1)  # (rows,)
    if not bool(sighted.all()):
        part.masked_fill_(sighted[:, None] == 0, 0)
    if not whole:
        out[..., :first] = 0
        out[..., stop:] = 0
        out[..., first:stop] = part


def ready_key(key: torch.Tensor) -> torch.Tensor:
    """Return keys (..., keys, width) in float32, laid out so that products with queries read them in one run."""
    if key.dtype == torch.float32 and key.stride(-2) == 1:
        return key
    return key.float().contiguous().transpose(-2, -1).contiguous().transpose(-2, -1)  # six times as quick as at once
