"""What the mask of an attention call lets its queries see."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from headwise.errors import ObservationError

HIDES = -60_000.0
"""A score that is lowered by as much gets the weight 0 in float32. float16's least number, -65,504, is such a mask;
biases by distance (ALiBi) stay far from it."""
ALSO_HIDES = -10_000.0
"""What BERT's authors masked with."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the mask of a call lets its queries see, and what it adds to their scores."""

    layer: str
    """The module that attends, for messages."""
    queries: int
    keys: int
    mask: torch.Tensor | None
    """bool (True: may be seen) or float (added to the scores), broadcastable to (windows, heads, queries, keys)."""
    causal: bool
    """Query n sees the keys up to n, counted from the first of each, as torch's `is_causal` has it."""
    device: torch.device

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these query rows of a window may see, bool (rows, keys).

        Raises:
            ObservationError: the heads see different keys.
        """
        places = torch.arange(self.queries, device=self.device)[rows]  # (rows,)
        if self.causal:
            visible = torch.arange(self.keys, device=self.device) <= places[:, None]
        else:
            visible = torch.ones(len(places), self.keys, dtype=torch.bool, device=self.device)
        mask = self._mask_of(window, rows)  # (heads or 1, rows or 1, keys or 1)
        if mask is None:
            return visible
        seen = mask if mask.dtype == torch.bool else (mask > HIDES) & (mask != mask.new_tensor(ALSO_HIDES))
        if len(seen) > 1 and not bool((seen[1:] == seen[:1]).all()):
            message = f"the heads of {self.layer} see different keys; headwise needs one mask for a layer's heads"
            raise ObservationError(message)
        return visible & seen[0]

    def bias(self, window: int, rows: slice) -> torch.Tensor | None:
        """Return what is added to the scores of these rows, broadcastable to (heads, rows, keys); None: nothing."""
        mask = self._mask_of(window, rows)
        return None if mask is None or mask.dtype == torch.bool else mask

    def same_as(self, other: Sight) -> bool:
        """Whether both certainly see the same; where this is False, they still may."""
        mine, others = (self.queries, self.keys, self.causal), (other.queries, other.keys, other.causal)
        return mine == others and self.mask is other.mask

    def _mask_of(self, window: int, rows: slice) -> torch.Tensor | None:
        if self.mask is None:
            return None
        mask = self.mask[(None,) * (4 - self.mask.ndim)]  # (windows or 1, heads or 1, queries or 1, keys or 1)
        own = mask[window if len(mask) > 1 else 0]
        return own[:, rows] if own.shape[1] > 1 else own
