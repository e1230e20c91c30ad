"""Some windows in place of all, spread evenly over the corpus."""

from __future__ import annotations

import numpy as np

from headwise.text.token_store import TokenStore


def evenly_spread(store: TokenStore, context: int, count: int) -> dict[str, list[int]]:
    """Choose `count` windows of at most `context` tokens, or all where there are no more, at even steps.

    Returns the numbers of the chosen windows of each document that has any, in the order of the corpus.
    """
    every = [
        (name, number)
        for name, length in zip(store.names, store.lengths, strict=True)
        for number in range(-(-length // context))
    ]
    chosen: dict[str, list[int]] = {}
    for place in np.linspace(0, len(every) - 1, min(count, len(every))).astype(np.int64).tolist():
        name, number = every[place]
        chosen.setdefault(name, []).append(number)
    return chosen
