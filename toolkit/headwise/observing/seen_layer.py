"""What was seen of one layer while a model read a batch of windows, in one pass or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from headwise.observing.attention_call import AttentionCall, SeenCall
from headwise.observing.joined_call import JoinedCall, Step


class SeenLayer:
    """The calls of one layer on the same windows, each continuing those before it."""

    def __init__(self, call: SeenCall) -> None:
        self._call = call
        self._queries: list[torch.Tensor] = []  # of the steps that `_call` does not have yet
        self._keys: _GrowingKeys | None = None  # once steps were joined
        self._steps: list[Step] = []
        windows, self.heads, queries, keys = call.shape
        self.windows = windows
        self.first_query = 0
        """The place of the first row among the keys."""
        if isinstance(call, AttentionCall) and keys > queries and not call.site.cross:
            self._begin_late(call)

    @property
    def call(self) -> SeenCall:
        """What was seen, in one piece."""
        if self._queries and isinstance(self._call, JoinedCall) and self._keys is not None:
            query = torch.cat([self._call.query, *self._queries], dim=2)  # (windows, heads, rows, width)
            self._call = replace(self._call, query=query, key=self._keys.whole, steps=tuple(self._steps))
            self._queries = []
        return self._call

    def step(self, call: SeenCall) -> JoinableStep | None:
        """Return the call as a further step of this layer, or None where it is none."""
        mine = self._call
        if not isinstance(mine, (AttentionCall, JoinedCall)) or not isinstance(call, AttentionCall):
            return None
        known = mine.key if self._keys is None else self._keys.whole  # (windows, groups, keys so far, width)
        key, known = _alike_grouped(call.key, known)
        same = key.shape[:2] == known.shape[:2] and key.shape[3] == known.shape[3] and key.dtype == known.dtype
        if call.shape[:2] != (self.windows, self.heads) or not same or call.scale != mine.scale:
            return None
        return JoinableStep(replace(call, key=key), known)

    def join(self, step: JoinableStep) -> None:
        """Add a step that `continues` was asked of."""
        call, mine = step.call, self._call
        if self._keys is None or self._keys.whole.shape != step.known.shape:
            self._keys = _GrowingKeys(step.known)
        if isinstance(mine, AttentionCall):
            self._steps = [Step(0, 0, mine.sight)]
            self._call = mine = JoinedCall(mine.site, mine.query, self._keys.whole, mine.scale, tuple(self._steps))
        last = self._steps[-1]
        self._steps.append(Step(last.start + last.sight.queries, step.first_key, call.sight))
        self._queries.append(call.query)
        if not call.site.cross:
            self._keys.append(call.key[:, :, step.earlier : step.earlier + call.shape[2]])

    def _begin_late(self, call: AttentionCall) -> None:
        """Take a first pass whose keys are more than its queries: a buffer to be filled, or a beginning not seen."""
        queries, keys = call.shape[2:]
        last = slice(queries - 1, queries)
        seen = torch.stack([call.visible(window, last)[0] for window in range(self.windows)]).any(0)  # (keys,)
        stop = max(int(seen.nonzero().max()) + 1 if bool(seen.any()) else keys, queries)
        self.first_query = stop - queries
        self._steps = [Step(0, 0, call.sight)]
        self._keys = _GrowingKeys(call.key[:, :, :stop])
        self._call = JoinedCall(call.site, call.query, self._keys.whole, call.scale, tuple(self._steps))


@dataclass(frozen=True, slots=True)
class JoinableStep:
    """A call of a layer beside the keys that are known of it."""

    call: AttentionCall
    known: torch.Tensor
    """(windows, groups of heads, keys so far, width)."""

    @property
    def first_key(self) -> int:
        """The place of its first key among all."""
        _, _, queries, keys = self.call.shape
        return 0 if self.call.site.cross else max(0, self.known.shape[2] + queries - keys)

    @property
    def earlier(self) -> int:
        """How many of its keys are of earlier steps."""
        return self.known.shape[2] - self.first_key

    def continues(self) -> bool:
        """Whether its keys begin with the known ones, and its queries see none that is not filled yet."""
        if self.call.site.cross:
            return torch.equal(self.call.key, self.known)
        if self.earlier <= 0 or not torch.equal(self._beginning, self.known[:, :, self.first_key :]):
            return False
        filled = self.earlier + self.call.shape[2]
        if filled == self.call.shape[3]:
            return True
        rows = slice(0, self.call.shape[2])
        windows = range(self.call.shape[0])
        return not any(bool(self.call.visible(window, rows)[:, filled:].any()) for window in windows)

    def reorders(self) -> bool:
        """Whether every window goes on from the keys of some window, but not each from its own."""
        if self.call.site.cross or self.earlier <= 0 or self.continues():
            return False
        ends = self.known[:, :, self.first_key :]  # (windows, groups, keys, width)
        return all(any(torch.equal(one, end) for end in ends) for one in self._beginning)

    @property
    def _beginning(self) -> torch.Tensor:
        return self.call.key[:, :, : self.earlier]


class _GrowingKeys:
    """Keys, (windows, groups, keys, width), that more are appended to; room is doubled, so each is copied twice."""

    def __init__(self, first: torch.Tensor) -> None:
        self._room = first.clone(memory_format=torch.contiguous_format)
        self._length = first.shape[2]

    @property
    def whole(self) -> torch.Tensor:
        return self._room[:, :, : self._length]

    def append(self, new: torch.Tensor) -> None:
        length = self._length + new.shape[2]
        if length > self._room.shape[2]:
            windows, groups, _, width = self._room.shape
            room = self._room.new_empty(windows, groups, 2 * length, width)
            room[:, :, : self._length] = self.whole
            self._room = room
        self._room[:, :, self._length : length] = new
        self._length = length


def _alike_grouped(one: torch.Tensor, other: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return two tensors of keys with as few groups of heads as the one that has fewer.

    Keys that heads share are repeated for them in one pass and not in another.
    """
    groups = min(one.shape[1], other.shape[1])
    return _grouped(one, groups), _grouped(other, groups)


def _grouped(key: torch.Tensor, groups: int) -> torch.Tensor:
    if key.shape[1] == groups or key.shape[1] % groups:
        return key
    windows, heads, keys, width = key.shape
    repeated = key.reshape(windows, groups, heads // groups, keys, width)
    first = repeated[:, :, :1]
    return first[:, :, 0] if torch.equal(repeated, first.expand_as(repeated)) else key
