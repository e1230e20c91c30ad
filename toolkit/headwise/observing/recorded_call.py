"""Weights that the author of a model has and gives, beside those that are computed from a kernel's call."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headwise.observing.attention_call import CallSite


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """The weights of one layer, as they were given."""

    site: CallSite
    given: torch.Tensor
    """float (windows, heads, queries, keys); a row sums to 1, or to 0 where it sees nothing."""
    seen: torch.Tensor
    """bool, broadcastable to (windows, heads, queries, keys), the same for all heads."""

    @property
    def layer(self) -> str:
        """The name that was given with the weights."""
        return self.site.name

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Windows, heads, queries, keys."""
        windows, heads, queries, keys = self.given.shape
        return windows, heads, queries, keys

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these query rows of a window may see, bool (rows, keys)."""
        windows, _, queries, keys = self.given.shape
        return self.seen.expand(windows, 1, queries, keys)[window, 0, rows]

    def weights(self, window: int, rows: slice, visible: torch.Tensor, out: torch.Tensor) -> None:  # noqa: ARG002  # as SeenCall
        """Write the weights of these query rows into `out`, float32 (heads, rows, keys); `visible` is (rows, keys)."""
        out.copy_(self.given[window, :, rows, : out.shape[-1]])
