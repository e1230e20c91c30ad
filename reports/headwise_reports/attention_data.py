"""The attention that the page carries: weights of kept windows, small enough to embed and to decode head by head."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headwise_reports.text_layout import gaps, language, window_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from headwise.observing.block import HeadName
    from headwise.run import Run

PAGE_BYTES = 20_000_000
"""Bytes of a page, at most, whatever the model."""
BUDGET = 12_000_000
"""Characters of encoded weights that a page may carry: few enough that it can be used within 3 seconds."""
MOST_TOKENS = 1024
"""Tokens of a window whose weights a page carries; of a longer window it shows the first so many."""

LEVELS = 255
"""Steps between no attention and the largest weight of a head in a window, evenly spaced in the square root."""


@dataclass(frozen=True, slots=True)
class EmbeddedHead:
    """One head's weights on one window: row by row, a byte a weight, deflated, in base64."""

    head: int
    """The place of the head among all heads of the run."""
    largest: float
    """The weight that the byte 255 stands for."""
    codes: str


@dataclass(frozen=True, slots=True)
class EmbeddedWindow:
    """One window with the weights of its heads."""

    document: str
    number: int
    """The number of the window within the document."""
    count: int
    """The windows of the document."""
    first: int
    """The place of its first token in the document."""
    texts: tuple[str, ...]
    gaps: str
    language: str
    queries: int
    keys: int
    """More than there are texts where the model saw padding."""
    causal: bool
    """Whether no head ever looks ahead."""
    length: int
    """Tokens of the whole window, padding left out; more than there are texts where the page shows its first part."""
    heads: tuple[EmbeddedHead, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script needs to know, without the weights."""
        return {
            "document": self.document,
            "number": self.number,
            "count": self.count,
            "first": self.first,
            "texts": list(self.texts),
            "gaps": self.gaps,
            "language": self.language,
            "queries": self.queries,
            "keys": self.keys,
            "causal": self.causal,
            "length": self.length,
        }


@dataclass(frozen=True, slots=True)
class EmbeddedAttention:
    """The windows that the page shows, and how many there are."""

    windows: tuple[EmbeddedWindow, ...]
    kept: int
    """Windows that the run keeps in full."""
    total: int
    """Windows of the corpus."""
    heads_left_out: tuple[HeadName, ...] = ()
    """Heads that did not fit, where not even one window did as a whole."""


def embed(run: Run, chosen: Sequence[int], preferred: Collection[int] = (), budget: int = BUDGET) -> EmbeddedAttention:
    """Return as many of the run's kept windows as the budget allows, with the heads at the places that are chosen.

    The first kept window of each document goes before the second of any. Where not even one window fits, heads are
    left out of it, those in `preferred` last.
    """
    tokens = run.tokens()
    counts = {str(name): int(last) + 1 for name, last in tokens.groupby("document")["window"].max().items()}
    rows = window_rows(tokens, run.kept)
    windows: dict[tuple[str, int], EmbeddedWindow] = {}
    left_out: tuple[HeadName, ...] = ()
    for key in _turns(rows):
        window = _embedded(run, key, rows[key], counts[key[0]], chosen)
        size = sum(len(head.codes) for head in window.heads)
        if size > budget and windows:
            break
        if size > budget:
            window, left_out = _shortened(window, run.heads, preferred, budget)
            if not window.heads:
                break
        windows[key] = window
        budget -= size
    ordered = tuple(windows[key] for key in rows if key in windows)
    return EmbeddedAttention(ordered, len(run.kept), sum(counts.values()), left_out)


def _turns(windows: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the windows so that the documents take turns.

    >>> _turns([("a", 0), ("a", 5), ("b", 3)])
    [('a', 0), ('b', 3), ('a', 5)]
    """
    seen: dict[str, int] = {}
    turn = {}
    for document, number in windows:
        turn[document, number] = seen[document] = seen.get(document, -1) + 1
    return sorted(windows, key=lambda window: turn[window])


def _embedded(run: Run, key: tuple[str, int], rows: pd.DataFrame, count: int, chosen: Sequence[int]) -> EmbeddedWindow:
    import numpy as np

    places = {run.heads[place]: place for place in chosen}
    texts = tuple(rows["token"][:MOST_TOKENS])
    heads = []
    shape, causal = (0, 0), True
    for name, whole in run.matrices(*key, places):
        weights = whole[:MOST_TOKENS, :MOST_TOKENS] if len(rows) > MOST_TOKENS else whole
        shape = weights.shape
        causal = causal and not np.triu(weights, 1).any()
        heads.append(encode(places[name], weights))
    return EmbeddedWindow(
        document=key[0],
        number=key[1],
        count=count,
        first=int(rows["position"].iloc[0]),
        texts=texts,
        gaps=gaps(rows[:MOST_TOKENS]),
        language=language(texts),
        queries=shape[0],
        keys=shape[1],
        causal=causal,
        length=len(rows),
        heads=tuple(heads),
    )


def encode(head: int, weights: npt.NDArray[np.float32]) -> EmbeddedHead:
    r"""Return weights (queries, keys) as bytes: 255 times the square root of their share of the largest, rounded.

    The square root spends the steps where most weights are. A weight w is off by sqrt(w * largest) / 255 at most (and a
    little): 0.4 % of the largest weight where that is greatest.

    >>> import numpy as np
    >>> head = encode(0, np.array([[0.5, 0.125]], dtype=np.float32))
    >>> head.largest, zlib.decompress(base64.b64decode(head.codes))
    (0.5, b'\xff\x80')
    """
    import numpy as np

    largest = float(weights.max(initial=0.0))
    shares = weights / largest if largest else weights
    codes = np.rint(LEVELS * np.sqrt(shares)).astype(np.uint8)  # (queries, keys)
    packed = zlib.compress(codes.tobytes(), level=6)
    return EmbeddedHead(head, largest, base64.b64encode(packed).decode("ascii"))


def _shortened(
    window: EmbeddedWindow, names: Sequence[HeadName], preferred: Collection[int], budget: int
) -> tuple[EmbeddedWindow, tuple[HeadName, ...]]:
    """Return the window with the heads that fit, and the names of the others."""
    fitting = set(_fitting(window.heads, [head.head in preferred for head in window.heads], budget))
    heads = tuple(head for head in window.heads if head.head in fitting)
    left_out = tuple(names[head.head] for head in window.heads if head.head not in fitting)
    return replace(window, heads=heads), left_out


def _fitting(heads: Sequence[EmbeddedHead], preferred: Sequence[bool], budget: int) -> Iterator[int]:
    left = budget
    for head, _ in sorted(zip(heads, preferred, strict=True), key=lambda pair: not pair[1]):
        left -= len(head.codes)
        if left < 0:
            return
        yield head.head
