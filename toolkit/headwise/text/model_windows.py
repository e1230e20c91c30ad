"""corpus -> windows of a model that somebody brought: cut by its own tokenizer, with its special tokens and overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from headwise.errors import ModelError, SettingsError
from headwise.model_contracts import BroughtModel
from headwise.text.document import Document
from headwise.text.encoding import tokens_of
from headwise.text.tokens import Tokens

MOST_CONTEXT = 4096
"""Tokens of a window where nobody says how many, at most: attention grows with their square."""
OVERLAPS = 8
"""The part of a window that the next one repeats where nobody says how much: one in so many."""


@dataclass(frozen=True, slots=True)
class WindowCut:
    """How the documents of a corpus are cut in windows."""

    context: int
    """Tokens of a window, special ones among them."""
    overlap: int
    """Tokens of the text that a window repeats of the one before."""
    specials: int
    """Special tokens of each window."""

    @classmethod
    def of(cls, model: BroughtModel, name: str, context: int | None, overlap: int | None, longest: int) -> Self:
        """Resolve what was asked for; no window is longer than the longest document needs.

        Raises:
            SettingsError: the model does not read so much at once, or the windows would never come to an end.
        """
        if context is not None and model.context is not None and context > model.context:
            message = (
                f"a context of {context:,} tokens is more than {name} reads at once: it reads {model.context:,}; use "
                f"--context {model.context} or less"
            )
            raise SettingsError(message)
        context = min(context or min(model.context or MOST_CONTEXT, MOST_CONTEXT), longest + model.specials)
        room = context - model.specials
        if room < 1:
            message = (
                f"a context of {context} tokens leaves no room for text beside the {model.specials} special tokens of "
                f"{name}; use --context {model.specials + 1} or more"
            )
            raise SettingsError(message)
        if overlap is not None and overlap >= room and longest > room:
            message = (
                f"an overlap of {overlap} tokens leaves nothing new in windows of {room} tokens of text; use "
                f"--overlap {room - 1} or less"
            )
            raise SettingsError(message)
        chosen = context // OVERLAPS if overlap is None else overlap
        return cls(context, min(chosen, room - 1), model.specials)

    def windows(self, length: int) -> int:
        """How many windows a document of so many tokens has.

        >>> [WindowCut(context=10, overlap=2, specials=2).windows(length) for length in (1, 8, 9, 14, 15)]
        [1, 1, 2, 2, 3]
        """
        room = self.context - self.specials
        return 1 + max(0, -(-(length - room) // (room - self.overlap)))


def windowed(
    document: Document, model: BroughtModel, cut: WindowCut, length: int, chosen: Sequence[int] | None = None
) -> Tokens:
    """Return the tokens of a document's windows, one window after the other.

    Args:
        document: the text.
        model: whose tokenizer cuts it.
        cut: how.
        length: tokens of the document, without special ones.
        chosen: the numbers of the windows that are taken; None: all.

    Raises:
        ModelError: the tokenizer cut the text otherwise.
    """
    encodings = model.encode(document.text, cut.context, cut.overlap)
    sizes = [len(encoding.ids) for encoding in encodings]
    if len(sizes) != cut.windows(length) or any(size != cut.context for size in sizes[:-1]):
        message = (
            f"the tokenizer of the model cut '{document.name}' in {len(sizes)} windows where {cut.windows(length)} of "
            f"{cut.context} tokens are expected; try another --context, or --overlap 0"
        )
        raise ModelError(message)
    tokens = tokens_of(document, *encodings, overlap=cut.overlap)
    if chosen is None or len(chosen) == len(sizes):
        return tokens
    return _only(tokens, cut.context, chosen)


def _only(tokens: Tokens, context: int, chosen: Sequence[int]) -> Tokens:
    """Keep some windows; what a window repeats of one that is not kept is repeated no more."""
    window = torch.arange(len(tokens)) // context  # (tokens,)
    follows = torch.isin(window - 1, torch.tensor(chosen))  # (tokens,)
    kept = replace(tokens, repeated=tokens.repeated & follows).at(
        torch.isin(window, torch.tensor(chosen)).nonzero().flatten()
    )
    return replace(kept, positions=torch.arange(len(kept)))


def codes_of(text: str, model: BroughtModel) -> list[str]:
    """Return the tokens of a text as the vocabulary of the model writes them, without special ones."""
    return [
        code
        for encoding in model.encode(text, None, 0)
        for code, special in zip(encoding.tokens, encoding.special_tokens_mask, strict=True)
        if not special
    ]
