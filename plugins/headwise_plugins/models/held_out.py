"""Which text the reader is tested on, in one place: for training, and for what is asked of the model afterwards."""

from __future__ import annotations


def held_out_from(tokens: int) -> int:
    """Return the place, among all tokens of the corpus, from which on nothing is learned from: the last 5 %.

    >>> held_out_from(1000), held_out_from(19)
    (950, 19)
    """
    return tokens - tokens // 20
