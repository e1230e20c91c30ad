"""model -> observe: runs a model over the windows of a document under observation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from headwise.observing.observation import Observation, observe
from headwise.text.token_store import windows
from headwise.text.tokens import Tokens

if TYPE_CHECKING:
    from headwise.models.model_store import LoadedModel

TOKENS_AT_ONCE = 4096
"""Tokens that the model reads in one batch, at most (one window is the least): bounds the queries and keys kept."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Some windows of a document, read under observation."""

    numbers: tuple[int, ...]
    """The number of each window within the document."""
    tokens: tuple[Tokens, ...]
    """The tokens of each window, with padding as the model saw it."""
    seen: Observation


def read(
    loaded: LoadedModel, tokens: Tokens, *, pad_to: int | None = None, wanted: Collection[int] | None = None
) -> Iterator[ReadBatch]:
    """Run the model, in evaluation mode and without gradients, over the windows of one document.

    Args:
        loaded: the model; `loaded.settings.context` is the length of a window.
        tokens: the document.
        pad_to: pad every window to this length; None: to the longest window of its batch.
        wanted: numbers of the windows to read; None: all.
    """
    context = loaded.settings.context or len(tokens)
    device = next(loaded.model.parameters()).device
    loaded.model.eval()
    chosen = [(number, window) for number, window in enumerate(windows(tokens, context))
              if wanted is None or number in wanted]  # fmt: skip
    size = max(1, TOKENS_AT_ONCE // max(pad_to or 1, context))
    for first in range(0, len(chosen), size):
        part = chosen[first : first + size]
        padded = _padded([window for _, window in part], pad_to, loaded.vocabulary.padding_id)
        ids = torch.stack([window.ids for window in padded]).to(device)  # (windows, tokens)
        with torch.no_grad(), observe(loaded.model) as seen:
            loaded.model(ids)
        yield ReadBatch(tuple(number for number, _ in part), tuple(padded), seen)


def _padded(batch: Sequence[Tokens], pad_to: int | None, padding_id: int) -> list[Tokens]:
    length = pad_to or max(len(window) for window in batch)
    return [window.padded(length, padding_id) for window in batch]
