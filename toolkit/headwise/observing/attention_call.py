"""One call of torch's attention kernel, and the weights that it computed and did not give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from headwise.errors import ObservationError


@dataclass(slots=True)
class CallSite:
    """Where a call was made."""

    name: str
    """The name of the module that made it, within the model."""
    cross: bool = False
    """Whether its keys are of another text than its queries; known for certain once the module has left."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One call of torch's attention kernel: what it takes to compute its weights."""

    site: CallSite
    query: torch.Tensor
    """(windows, heads, queries, width of a head)."""
    key: torch.Tensor
    """(windows, heads or groups of heads, keys, width of a head)."""
    mask: torch.Tensor | None
    """bool (True: may be seen) or float (added to the scores), broadcastable to (windows, heads, queries, keys)."""
    causal: bool
    scale: float

    @property
    def layer(self) -> str:
        """The name of the module that made the call."""
        return self.site.name

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these query rows of a window may see, bool (queries, keys)."""
        queries, keys = self.query.shape[-2], self.key.shape[-2]
        places = torch.arange(queries, device=self.query.device)[rows]  # (rows,)
        visible = torch.ones(len(places), keys, dtype=torch.bool, device=self.query.device)
        if self.causal:
            visible &= torch.arange(keys, device=self.query.device) <= places[:, None]
        if self.mask is not None:
            mask = self._mask_of(window, rows)  # (heads or 1, rows, keys)
            seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
            if not bool((seen == seen[:1]).all()):
                message = f"the heads of {self.layer} see different keys; headwise needs one mask for a layer's heads"
                raise ObservationError(message)
            visible &= seen[0]
        return visible

    def weights(self, window: int, rows: slice, visible: torch.Tensor, out: torch.Tensor) -> None:
        """Write the weights of these query rows into `out`, float32 (heads, queries, keys)."""
        keys = out.shape[-1]
        query = self.query[window, :, rows].float()  # (heads, rows, width)
        key = self.key[window, :, :keys].float()  # (groups, keys, width)
        if key.shape[0] != query.shape[0]:  # grouped queries: several heads share a key head
            key = key.repeat_interleave(query.shape[0] // key.shape[0], dim=0)  # (heads, keys, width)
        torch.matmul(query * self.scale, key.transpose(-2, -1), out=out)
        if self.mask is not None and self.mask.dtype != torch.bool:
            out += self._mask_of(window, rows)[..., :keys]
        out.masked_fill_(~visible, -math.inf)
        torch.softmax(out, dim=-1, out=out)
        out.nan_to_num_(nan=0.0)  # a row that sees nothing: the kernel gives it nothing, too

    def _mask_of(self, window: int, rows: slice) -> torch.Tensor:
        if self.mask is None:
            message = "this call has no mask"
            raise ObservationError(message)
        shape = (*self.query.shape[:2], self.query.shape[-2], self.key.shape[-2])
        mask = self.mask[(None,) * (4 - self.mask.ndim)]  # (windows or 1, heads or 1, queries or 1, keys or 1)
        return mask.expand(shape[0], mask.shape[1], *shape[2:])[window, :, rows]
