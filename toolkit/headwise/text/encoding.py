"""encoding -> tokens: what a model's own tokenizer gave becomes tokens that show the text itself.

A token shows the stretch of the text that it stands for, never the way its vocabulary writes it. Several tokens of one
character (byte-level pieces of 鳳, say) are told apart by a subscript: 鳳, 鳳₂, 鳳₃.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from headwise.errors import ObservationError
from headwise.model_contracts import Encoding
from headwise.text.classes import CLASSES, classify
from headwise.text.document import Document
from headwise.text.tokens import PADDING_TEXT, Tokens

SPACE_MARKS = "▁ĠĊĉ"
"""What vocabularies write for white space: SentencePiece's sign, and the byte-level ones."""
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
BLANKS = {"\n": "⏎", "\t": "↹"}
BLANK = "␣"
"""How a token of white space is shown, where it is neither line break nor tab; all of these are in the page's font."""
PARTS = ("ids", "tokens", "offsets", "special_tokens_mask", "attention_mask")

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


def tokens_of(document: Document | str, *encodings: Encoding, overlap: int = 0) -> Tokens:
    """Return the tokens that a tokenizer of the `tokenizers` library gave for a text, with their classes.

    Args:
        document: the text that was encoded, or a document.
        encodings: of a text that was read at once, one (in transformers `tokenizer(text)[0]`); of one that was cut in
            windows, all of them, in order.
        overlap: tokens of the text that each window repeats of the one before.

    Raises:
        ObservationError: what is given is no encoding, or none of this text.
    """
    document = Document("text", document) if isinstance(document, str) else document
    for encoding in encodings:
        _refuse_other(encoding, document.text)
    special = np.array(_joined(encodings, "special_tokens_mask"), dtype=bool)  # (tokens,)
    padding = ~np.array(_joined(encodings, "attention_mask"), dtype=bool)
    piece = _numbered(encodings, overlap)
    _, places = np.unique(piece[~special], return_index=True)
    first = np.flatnonzero(~special)[places]  # (pieces,): the token where each stands first
    pieces = _Pieces.of(document.text, _joined(encodings, "tokens"), _joined(encodings, "offsets"), first)
    spans = np.full((len(piece), 2), -1, dtype=np.int64)
    spans[~special] = np.array(pieces.spans, dtype=np.int64).reshape(-1, 2)[piece[~special]]
    texts = np.array(_joined(encodings, "tokens"), dtype=object)
    texts[padding] = PADDING_TEXT
    texts[~special] = np.array(pieces.texts(document.text), dtype=object)[piece[~special]]
    flags = {"special": special, "padding": padding, "repeated": ~special & ~np.isin(np.arange(len(piece)), first)}
    for name, known in pieces.classes(document).items():
        flags[name] = np.zeros(len(piece), dtype=bool)
        flags[name][~special] = known[piece[~special]]
    return Tokens(
        texts=tuple(texts),
        ids=torch.tensor(_joined(encodings, "ids"), dtype=torch.int64),
        positions=torch.from_numpy(np.where(padding, -1, (~padding).cumsum() - 1)),
        starts=torch.from_numpy(spans[:, 0]),
        ends=torch.from_numpy(spans[:, 1]),
        **{name: torch.from_numpy(known) for name, known in flags.items()},
    )


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What the tokenizer found in the text, in order, each once, whatever windows it was cut in."""

    spans: list[tuple[int, int]]
    """Without the white space around it."""
    blank: Flags
    """Whether it stands for nothing but white space."""

    @classmethod
    def of(cls, text: str, codes: Sequence[str], offsets: Sequence[tuple[int, int]], first: Places) -> Self:
        """Gather the pieces that stand first at these tokens."""
        spans, blank = [], []
        for place in first.tolist():
            start, end = offsets[place]
            inner = text[start:end].strip()
            blank.append(not inner or not codes[place].strip(SPACE_MARKS))
            start += text[start:end].index(inner)
            spans.append((start, start + len(inner)) if inner else tuple(offsets[place]))
        return cls(spans, np.array(blank, dtype=bool))

    def texts(self, text: str) -> list[str]:
        """How each is shown."""
        shown: list[str] = []
        last, number = (-1, -1), 0
        for (start, end), blank in zip(self.spans, self.blank, strict=True):
            if blank:
                white = "".join(BLANKS.get(character, BLANK) for character in text[start:end] if character.isspace())
                shown.append(white or BLANK)
                continue
            number = number + 1 if (start, end) == last else 1
            last = start, end
            shown.append(text[start:end] + ("" if number == 1 else str(number).translate(SUBSCRIPTS)))
        return shown

    def classes(self, document: Document) -> dict[str, Flags]:
        """Each class of `CLASSES`, bool (pieces,); what is blank is of none."""
        (words,) = np.nonzero(~self.blank)
        flags = {name: np.zeros(len(self.spans), dtype=bool) for name in CLASSES}
        for name, known in classify(document, [self.spans[place] for place in words]).items():
            flags[name][words] = known
        return flags


def _numbered(encodings: Sequence[Encoding], overlap: int) -> Places:
    """Return which piece of the text each token is, int64 (tokens,), counted through all windows; -1: a special one."""
    numbers, following = [], 0
    for encoding in encodings:
        own = ~np.array(encoding.special_tokens_mask, dtype=bool)
        begun = max(following - overlap, 0)
        following = begun + int(own.sum())
        numbers.append(np.where(own, begun + own.cumsum() - 1, -1))
    return np.concatenate([np.empty(0, dtype=np.int64), *numbers])


def _joined(encodings: Sequence[Encoding], part: str) -> list[Any]:
    return list(chain.from_iterable(getattr(encoding, part) for encoding in encodings))


def _refuse_other(encoding: object, text: str) -> None:
    """Raise ObservationError where this is no encoding, or its tokens lie outside this one text."""
    if not all(hasattr(encoding, part) for part in PARTS):
        message = (
            f"tokens cannot be made of {type(encoding).__name__}; give what the `tokenizers` library gives for a text, "
            "in transformers tokenizer(text)[0] of a fast tokenizer"
        )
        raise ObservationError(message)
    own = [span for span, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True) if not special]  # type: ignore[attr-defined]
    if any(end > len(text) for _, end in own) or any(later < start for (start, _), (later, _) in pairwise(own)):
        message = (
            f"the tokens of this encoding do not lie in order in the text of {len(text)} characters that was given; "
            "give the text that was encoded, one text at a time"
        )
        raise ObservationError(message)
