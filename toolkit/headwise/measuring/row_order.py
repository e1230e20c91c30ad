"""The order of query rows by their values, ties broken by a hash, and an even sample of all rows of a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float32]

FEWEST_KEYS = 16
"""Keys that a row must see to be shown; half of the longest window, where that is less."""
SAMPLE_WINDOWS = 256
"""Windows that the sample is drawn from, at most: few, for rows of the sample are read again to be shown."""
SAMPLE_ROWS = 4096
"""Rows of the sample, at most."""
LOW_BITS = np.uint64(0xFFFFFFFF)


def row_hashes(document: str, places: Integers) -> Hashes:
    """Return a number for each place of a document, uint64 (places,), spread evenly and always the same.

    >>> bool((row_hashes("第一回", np.arange(3)) == row_hashes("第一回", np.arange(9))[:3]).all())
    True
    """
    from pandas.util import hash_array

    start = int.from_bytes(hashlib.blake2b(document.encode(), digest_size=8).digest(), "little")
    return np.asarray(hash_array(hash_array(places.astype(np.uint64)) ^ np.uint64(start)), dtype=np.uint64)


def window_hashes(document: str, windows: int) -> Hashes:
    """Return a number for each window of a document, uint64 (windows,), independent of those of its rows."""
    return row_hashes(document, -1 - np.arange(windows))  # no row has these places


@dataclass(frozen=True, slots=True)
class Sample:
    """An even sample of the rows of a corpus: some rows of some windows, all where there are few."""

    fewest: int
    """Keys that a row must see to be shown at all: with one key or two there is nothing to choose."""

    context: int
    """Tokens of a window, at most."""
    limit: int
    """The largest hash of a window that belongs to it."""
    rows: int
    """Rows of each of its windows, at most."""

    @classmethod
    def of(cls, lengths: Mapping[str, int], context: int) -> Self:
        """Draw the sample from the length of each document in tokens; the order of documents makes no difference.

        >>> sample = Sample.of({"a": 300}, context=128)
        >>> sample.rows, sample.fewest
        (128, 16)
        """
        longest = min(context, max(lengths.values(), default=0))
        fewest = min(FEWEST_KEYS, longest // 2)
        lowest = np.empty(0, dtype=np.uint64)
        for document, length in lengths.items():
            every = np.concatenate([lowest, window_hashes(document, -(-length // context))])
            lowest = np.sort(every)[:SAMPLE_WINDOWS]
        return cls(fewest, context, int(lowest.max(initial=0)), min(context, SAMPLE_ROWS // max(len(lowest), 1)))

    def chosen(self, document: str, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Tell which rows of a document belong to the sample, bool (rows,), from the hashes of all its rows."""
        chosen = np.zeros(len(hashes), dtype=bool)
        windows = window_hashes(document, -(-len(hashes) // self.context))
        for window in np.flatnonzero(windows <= np.uint64(self.limit)).tolist():
            first = window * self.context
            chosen[first + np.argsort(hashes[first : first + self.context])[: self.rows]] = True
        return chosen


def ranks(values: Values, hashes: Hashes) -> Hashes:
    """Return numbers that stand in the order of the values and, where these are equal, of the hashes.

    Values are compared to 20 binary digits: what lies below is the noise of float32, which the size of a block may
    change; subnormal numbers, which have fewer digits, may be taken as 0. Shapes: (..., rows) and (rows,).

    >>> first, second, third = ranks(np.array([-1, 0.5, 0.50000001], dtype=np.float32), np.uint64([3, 2, 1]))
    >>> bool(first < third < second)
    True
    """
    bits = (values + np.float32(0)).view(np.int32)  # -0 becomes 0
    bits = (bits + 8) & ~15
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # signed numbers in the order of the floats
    ordered ^= -0x80000000  # and now unsigned
    return (ordered.view(np.uint32).astype(np.uint64) << np.uint64(32)) | (hashes & LOW_BITS)
