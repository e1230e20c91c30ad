"""The attention of one layer over several passes that continue each other, as generation with a key-value cache does.

The keys of a step begin with those of the step before, so each key is kept once, and memory grows with the tokens.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from headwise.observing.attention_call import QueriesAndKeys, write_weights
from headwise.observing.sight import Sight


@dataclass(frozen=True, slots=True)
class Step:
    """The query rows that one pass adds."""

    start: int
    """The first of its rows, counted through all steps."""
    first_key: int
    """The place of its first key among all keys: more than 0 where a sliding window has dropped the earlier ones."""
    sight: Sight


@dataclass(frozen=True, slots=True)
class JoinedCall(QueriesAndKeys):
    """The rows of all steps of one layer, one after the other."""

    scale: float
    steps: tuple[Step, ...]

    def visible(self, window: int, rows: slice) -> torch.Tensor:
        """Return what these rows may see, bool (rows, keys)."""
        start, stop, _ = rows.indices(self.query.shape[-2])
        visible = torch.zeros(stop - start, self.key.shape[-2], dtype=torch.bool, device=self.query.device)
        for step, part in self._steps_of(start, stop):
            seen = step.sight.visible(window, part)  # (rows of the step, its keys)
            keys = min(visible.shape[1] - step.first_key, seen.shape[1])  # a buffer may be longer than what it holds
            here = visible[step.start + part.start - start : step.start + part.stop - start]
            here[:, step.first_key : step.first_key + keys] = seen[:, :keys]
        return visible

    def weights(self, window: int, rows: slice, visible: torch.Tensor, out: torch.Tensor) -> None:
        """Write the weights of these rows into `out`, float32 (heads, rows, keys)."""
        start, stop, _ = rows.indices(self.query.shape[-2])
        query = self.query[window, :, start:stop].float() * self.scale  # (heads, rows, width)
        key = self.key[window, :, : out.shape[-1]]  # (groups, keys, width)
        write_weights(query, key, self._bias(window, start, stop, out), visible, out)

    def _bias(self, window: int, start: int, stop: int, out: torch.Tensor) -> torch.Tensor | None:
        """Return what is added to the scores of these rows, (heads or 1, rows, keys); None: nothing."""
        found = [(step, part, step.sight.bias(window, part)) for step, part in self._steps_of(start, stop)]
        heads = max((len(bias) for _, _, bias in found if bias is not None), default=0)
        if not heads:
            return None
        whole = out.new_zeros(heads, *out.shape[1:])
        for step, part, bias in found:
            if bias is None:
                continue
            here = whole[:, step.start + part.start - start : step.start + part.stop - start, step.first_key :]
            keys = min(here.shape[-1], step.sight.keys)
            here[..., :keys] = bias[..., :keys]
        return whole

    def _steps_of(self, start: int, stop: int) -> Iterator[tuple[Step, slice]]:
        """Yield the steps that have some of these rows, with the rows, counted within the step."""
        first = bisect_right(self.steps, start, key=lambda step: step.start) - 1
        for step in self.steps[max(first, 0) : bisect_left(self.steps, stop, key=lambda step: step.start)]:
            part = slice(max(start - step.start, 0), min(stop - step.start, step.sight.queries))
            if part.start < part.stop:
                yield step, part
