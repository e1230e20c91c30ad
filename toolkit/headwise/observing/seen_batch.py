"""Windows that a model read together, in one pass or in several that continue each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headwise.errors import ObservationError
from headwise.observing.attention_call import SeenCall
from headwise.observing.seen_layer import SeenLayer


class LayerId(NamedTuple):
    """A layer, whatever the pass: a module that attends twice in a pass is two layers."""

    module: str
    time: int


Pass = dict[LayerId, SeenCall]
"""The calls of one pass of the model, in their order."""


class SeenBatch:
    """What was seen of some windows.

    A pass goes on with the windows of the pass before where its queries follow the earlier keys, and where a decoder
    reads what an encoder has given in a pass of its own.
    """

    def __init__(self, calls: Pass) -> None:
        self.layers = {layer: SeenLayer(call) for layer, call in calls.items()}
        self.windows = max(layer.windows for layer in self.layers.values())

    def take(self, calls: Pass) -> bool:
        """Add a pass if it goes on with these windows; otherwise leave it, and return False.

        Raises:
            ObservationError: the pass goes on with windows in another order, as a beam search does.
        """
        if self._is_read_by(calls):
            self.layers |= {layer: SeenLayer(call) for layer, call in calls.items()}
            return True
        if not any(_follows(call) for call in calls.values()) or not calls.keys() <= self.layers.keys():
            return False
        steps = [(self.layers[layer], self.layers[layer].step(call)) for layer, call in calls.items()]
        for _, step in steps:
            if step is None:
                return False
            if not step.continues():
                if step.reorders():
                    message = (
                        f"{step.call.layer} goes on with windows in another order than before, as a beam search does; "
                        "headwise follows each window from its first token: generate with num_beams=1, or give the "
                        "finished text to the model in one pass"
                    )
                    raise ObservationError(message)
                return False
        for layer, step in steps:
            if step is not None:
                layer.join(step)
        return True

    def _is_read_by(self, calls: Pass) -> bool:
        """Whether these are the calls of a decoder that reads the windows, of which an encoder alone was seen."""
        cross = [call for call in calls.values() if call.site.cross]
        if not cross or calls.keys() & self.layers.keys() or any(one.call.site.cross for one in self.layers.values()):
            return False
        lengths = {layer.call.shape[2] for layer in self.layers.values()}
        return all(call.shape[0] == self.windows and call.shape[3] in lengths for call in cross)


def as_pass(calls: Sequence[SeenCall]) -> Pass:
    """Give the calls of a pass their layers."""
    times: dict[str, int] = {}
    found: Pass = {}
    for call in calls:
        times[call.layer] = times.get(call.layer, -1) + 1
        found[LayerId(call.layer, times[call.layer])] = call
    return found


def _follows(call: SeenCall) -> bool:
    """Whether its keys begin before its queries."""
    return not call.site.cross and call.shape[3] > call.shape[2]
