"""How differently two heads look at the same text: a distance for each pair of heads.

Each query row gives one distribution over the keys for each head. Two heads are compared row by row, and the distances
are averaged over rows, so that the numbers are alike for long and short texts. `hellinger` runs from 0 (the same
attention) to 1 (no key in common); `jensen-shannon` from 0 to ln 2, in nats. A row that can see nothing counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import TYPE_CHECKING

from headwise import PairAnalyzer, hookimpl

if TYPE_CHECKING:
    import torch

    from headwise import Block

WORK = 2**19
"""Weights that are compared at once, of all heads together: few enough to stay in the processor's cache."""


def hellinger(block: Block) -> torch.Tensor:
    """Return the mean Hellinger distance of each pair of heads; float32 (heads, heads), in 0..1.

    By one product of square roots for each row, in float64: for two heads that are nearly alike the difference below
    cancels, and in float32 its root would be off by 0.0005.
    """
    precise = block.weights.cpu() if block.weights.device.type == "mps" else block.weights  # mps has no float64
    roots = precise.double().sqrt().transpose(0, 1)  # (queries, heads, keys)
    overlap = roots @ roots.transpose(1, 2)  # (queries, heads, heads)
    mass = overlap.diagonal(dim1=1, dim2=2)  # (queries, heads): 1, or 0 for a row that sees nothing
    squared = (mass[:, :, None] + mass[:, None, :]) / 2 - overlap  # (queries, heads, heads)
    distances = squared.clamp(0, 1).sqrt().mean(0).triu(1)  # (heads, heads)
    return (distances + distances.T).to(block.weights)


def jensen_shannon(block: Block) -> torch.Tensor:
    """Return the mean Jensen-Shannon divergence of each pair of heads; float32 (heads, heads), in nats, 0..ln 2.

    With s = p + q it is (½ Σ 2p ln 2p + ½ Σ 2q ln 2q - Σ s ln s) / 2, a sum over all weights of the rows. So the
    weights are taken a few at a time, and memory does not grow with the number of pairs.
    """
    import torch

    heads, queries, _ = block.weights.shape
    least = torch.finfo(block.weights.dtype).tiny  # 0 ln 0 is 0: the logarithm only has to stay finite
    seen = block.weights[:, block.visible]  # (heads, visible weights)
    both = torch.zeros(heads, heads, dtype=torch.float64)  # Σ s ln s of each pair; on the diagonal Σ 2p ln 2p
    for part in torch.split(seen, max(1024, WORK // heads), dim=1):
        for first in range(heads):
            sums = (part[first] + part[first:]).clamp_(min=least)  # (heads from the first on, weights of the part)
            both[first, first:] += sums.log().mul_(sums).sum(-1).cpu()
    alone = both.diagonal()  # (heads,)
    divergence = (
        ((alone[:, None] + alone[None, :]) / 2 - both) / 2 / queries
    )  # (heads, heads), right above the diagonal
    upper = divergence.clamp(0, log(2)).triu(1)
    return (upper + upper.T).to(block.weights)


@hookimpl
def headwise_analyzers() -> Iterable[PairAnalyzer]:
    """Offer `hellinger` and `jensen-shannon`."""
    yield PairAnalyzer(
        name="hellinger",
        run=hellinger,
        unit="distance",
        bounds=(0, 1),
        summary="how differently two heads look, from 0 (alike) to 1 (no token in common)",
        formula="mean over rows i of √(1 - Σ √(α(i, j) β(i, j))) over the keys j",
        source="Hellinger 1909; one number a row, averaged over rows",
    )
    yield PairAnalyzer(
        name="jensen-shannon",
        run=jensen_shannon,
        unit="nats",
        bounds=(0, log(2)),
        summary="how differently two heads look, from 0 (alike) to ln 2 (no token in common)",
        formula="mean over rows i of ½ Σ α ln(α/μ) + ½ Σ β ln(β/μ) over the keys j, with μ = (α + β) / 2",
        source="Clark et al. 2019, What Does BERT Look At?, section 6; the mean over rows, not smoothed",
    )
