"""How quickly 144 heads are compared, beside the published procedure, pair by pair.

    python tests/benchmarks/bench_pairs.py [--tokens N]

Clark et al. 2019 (What Does BERT Look At?, section 6) sum the Jensen-Shannon divergence of two heads over the rows of a
text, each row smoothed as 0.999 p + 0.001 / tokens. Here that is written from its formula, in NumPy and float32: for
one pair after the other, and for one head beside all others at once, as their script does it. headwise is given the
same smoothed rows, so all of them must give the same numbers. Rates are pairs of weights compared a second.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from side_by_side import in_turn, reached, times_as_fast

from headwise.testing import make_block
from headwise_plugins.analyzers.head_diversity import hellinger, jensen_shannon

HEADS, ROUNDS = 144, 3
GOALS = {"hellinger": 20, "jensen-shannon": 3}
"""Times the rate of the procedure for one pair after the other."""

Floats = npt.NDArray[np.float32]


def smoothed(tokens: int) -> torch.Tensor:
    """Return random attention that sees both ways, smoothed as published, float32 (heads, tokens, tokens)."""
    torch.manual_seed(0)
    weights = torch.softmax(3 * torch.randn(HEADS, tokens, tokens), -1)
    return 0.999 * weights + 0.001 / tokens


def pair_by_pair(weights: Floats) -> Floats:
    """Return the mean divergence of each pair, from the formula: ½ Σ p ln(p/m) + ½ Σ q ln(q/m), m = (p + q) / 2."""
    divergence = np.zeros((HEADS, HEADS), dtype=np.float32)
    for a, b in combinations(range(HEADS), 2):
        p, q = weights[a], weights[b]
        m = (p + q) / 2
        total = (p * np.log(p / m)).sum() / 2 + (q * np.log(q / m)).sum() / 2
        divergence[a, b] = divergence[b, a] = total / weights.shape[1]
    return divergence


def head_beside_all(weights: Floats) -> Floats:
    """Return the same, one head beside all heads at once: each pair is taken twice."""
    divergence = np.zeros((HEADS, HEADS), dtype=np.float32)
    for a in range(HEADS):
        p = weights[a][None]
        m = (p + weights) / 2
        rows = (p * np.log(p / m) + weights * np.log(weights / m)) / 2  # (heads, queries, keys)
        divergence[a] = rows.sum(-1).sum(-1) / weights.shape[1]
    return divergence


def hellinger_by_definition(weights: Floats) -> npt.NDArray[np.float64]:
    """Return the mean Hellinger distance of each pair, in float64, for the numbers alone."""
    roots = np.sqrt(weights.astype(np.float64))
    return np.stack([np.sqrt(((root - roots) ** 2).sum(-1) / 2).mean(-1) for root in roots])


def main() -> None:
    """Compare the numbers, then time all in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=128, help="tokens of the text; Clark et al. cut at 128")
    tokens = parser.parse_args().tokens
    torch.set_num_threads(1)
    weights = smoothed(tokens)
    block, array = make_block("字" * tokens, weights=weights, causal=False), weights.numpy()
    published = pair_by_pair(array)
    errors = {
        "jensen-shannon": float(np.abs(jensen_shannon(block).numpy() - published).max()),
        "one head beside all": float(np.abs(head_beside_all(array) - published).max()),
        "hellinger": float(np.abs(hellinger(block).numpy() - hellinger_by_definition(array)).max()),
    }
    works = {
        "pair by pair": lambda: pair_by_pair(array),
        "one head beside all": lambda: head_beside_all(array),
        "jensen-shannon": lambda: jensen_shannon(block),
        "hellinger": lambda: hellinger(block),
    }
    times = in_turn(works, ROUNDS, warm_up=False)
    compared = HEADS * (HEADS - 1) / 2 * tokens**2
    title = f"{HEADS} heads, {tokens} tokens, one thread"
    columns = "million pairs of weights/s", "times pair by pair", "times one beside all", "goal", "largest error"
    table = Table("", *columns, title=title)
    for name, seconds in times.items():
        ratios = [times_as_fast(times, name, other) for other in ("pair by pair", "one head beside all")]
        goal = f"{GOALS[name]}: {reached(ratios[0] >= GOALS[name])}" if name in GOALS else ""
        error = f"{errors[name]:.0e}" if name in errors else ""
        rate = compared / statistics.median(seconds) / 1e6
        table.add_row(name, f"{rate:,.0f}", f"{ratios[0]:.1f}", f"{ratios[1]:.1f}", goal, error)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
