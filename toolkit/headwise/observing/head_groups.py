"""Heads by what they see: layers of a model that see the same keys for the same queries are measured together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from headwise.observing.block import HeadName
from headwise.observing.layer_groups import CROSS, SELF


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """The heads of layers that see the same keys for the same queries."""

    name: str
    """Of all layers together: '' where the model has one group alone."""
    layers: tuple[int, ...]
    """Numbers of the layers, counted through the whole model."""
    modules: tuple[str, ...]
    """The names of their modules within the model."""
    counts: tuple[int, ...]
    """Heads of each layer."""
    kind: str = SELF
    """One of `headwise.observing.layer_groups`: self-attention, encoder, decoder or cross-attention."""

    @property
    def cross(self) -> bool:
        """Whether their keys are of another text than their queries."""
        return self.kind == CROSS

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """The (layer, head) of each, in order."""
        layers = zip(self.layers, self.counts, strict=True)
        return tuple(HeadName(layer, head) for layer, count in layers for head in range(count))

    def to_json(self) -> dict[str, Any]:
        """Return what run.json tells of it."""
        return asdict(self)


class ModelLayer(NamedTuple):
    """A layer that attends."""

    number: int
    module: str
    """The name of its module within the model."""
    group: str
    heads: int
    """How many it has."""


def groups_of(manifest: Mapping[str, Any]) -> tuple[HeadGroup, ...]:
    """Return the groups of a run's model, from its run.json; none before there is a model."""
    steps = manifest["steps"]
    groups = (steps.get("model") or steps.get("train") or {}).get("groups", [])
    return tuple(
        HeadGroup(one["name"], tuple(one["layers"]), tuple(one["modules"]), tuple(one["counts"]), one["kind"])
        for one in groups
    )


def layers_of(groups: tuple[HeadGroup, ...]) -> list[ModelLayer]:
    """Return the layers of all groups, in the order of the model."""
    return sorted(
        ModelLayer(number, module, group.name, count)
        for group in groups
        for number, module, count in zip(group.layers, group.modules, group.counts, strict=True)
    )
