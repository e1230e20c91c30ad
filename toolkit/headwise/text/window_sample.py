"""Some windows in place of all, spread evenly over the corpus."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headwise.text.token_store import TokenStore


def evenly_spread(store: TokenStore, context: int, count: int) -> dict[str, list[int]]:
    """Choose `count` windows of at most `context` tokens, or all where there are no more, at even steps.

    Returns the numbers of the chosen windows of each document that has any, in the order of the corpus.
    """
    return spread({name: -(-store.length(name) // context) for name in store.names}, count)


def spread(windows: Mapping[str, int], count: int) -> dict[str, list[int]]:
    """Choose `count` windows, or all, at even steps; `windows` says how many each document has.

    >>> spread({"a": 3, "b": 1, "c": 1}, 3)
    {'a': [0, 2], 'c': [0]}
    """
    every = [(name, number) for name, most in windows.items() for number in range(most)]
    chosen: dict[str, list[int]] = {}
    for place in np.linspace(0, len(every) - 1, min(count, len(every))).astype(np.int64).tolist():
        name, number = every[place]
        chosen.setdefault(name, []).append(number)
    return chosen
