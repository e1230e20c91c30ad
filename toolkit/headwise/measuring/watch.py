"""Tells whether a block was changed in place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch

from headwise.observing.block import Block
from headwise.text.tokens import Tokens

TENSORS = tuple(part.name for part in fields(Tokens) if part.name != "texts")
"""The tensors of tokens."""


@dataclass(slots=True)
class Watch:
    """The tensors of a block, with how often they had been changed when they were last looked at.

    torch counts changes in place, which views share, under a private name.
    """

    tensors: list[torch.Tensor]
    changes: int

    @classmethod
    def over(cls, block: Block) -> Self:
        """Watch a block from now on."""
        tensors = [block.weights, block.visible, block.queries]
        tensors += [getattr(tokens, name) for tokens in (block.tokens, block.window_tokens) for name in TENSORS]
        watch = cls(tensors, 0)
        watch.changed()
        return watch

    def changed(self) -> bool:
        """Tell whether something was changed since this was last asked."""
        before, self.changes = self.changes, sum(tensor._version for tensor in self.tensors)  # noqa: SLF001
        return self.changes != before
