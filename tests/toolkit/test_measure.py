"""Measuring: means and chance are right whatever the blocks, and a broken analyzer costs only itself."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import headwise
from headwise.block import EVEN, Block, HeadName, even_weights
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.errors import PluginError
from headwise.measure import Measuring, ProfileSums
from headwise.registry import Registry
from headwise.tokens import Tokens


def causal_block(weights: torch.Tensor, text: str) -> Block:
    """Return a block of one head with these weights and the even head behind it."""
    visible = torch.ones(weights.shape, dtype=torch.bool).tril()
    stacked = torch.stack([weights, even_weights(visible)])
    tokens = Tokens.of(text)
    return Block(stacked, (HeadName(0, 0), EVEN), torch.arange(len(weights)), tokens, visible, tokens)


# The four by four example that the TransformerLens demo works through.
EXAMPLE = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.15, 0.5, 0.25]])


def punctuation(block: Block) -> torch.Tensor:
    """Share of attention on punctuation, (heads, queries)."""
    return block.weights @ block.tokens.punctuation.float()


def measuring(**analyzers: object) -> Measuring:
    """Return a lenient measuring of these analyzers, given as functions or as whole analyzers."""
    registry = Registry()
    registry.add("test", {"headwise_analyzers": lambda: [
        value if isinstance(value, (Analyzer, PairAnalyzer)) else
        Analyzer(name=name, run=value, unit="share", summary="")  # type: ignore[arg-type]
        for name, value in analyzers.items()
    ]})  # fmt: skip
    return Measuring.of(registry.offered("analyzer"))


def test_value_and_chance_of_a_worked_example() -> None:
    """The third token is a comma: the head gives it (0 + 0 + 0.5 + 0.5) / 4, even attention (1/3 + 1/4) / 4."""
    one = measuring(commas=punctuation)
    sums = one.start(1, 1)
    one.add(sums, causal_block(EXAMPLE, "天子，說"), torch.zeros(4, dtype=torch.int64))
    assert sums.rows.tolist() == [[4]]
    torch.testing.assert_close(sums.sums[0, :, 0], torch.tensor([1.0, 7 / 12], dtype=torch.float64))


def test_rows_that_do_not_count_are_left_out() -> None:
    """With `rows` the mean is over those rows alone, and a NaN in the others does no harm."""
    previous = Analyzer(
        name="previous",
        run=lambda block: torch.nn.functional.pad(block.weights.diagonal(-1, 1, 2), (1, 0), value=math.nan),
        rows=lambda block: block.queries > 0,
        unit="share",
        summary="",
    )
    one = measuring(previous=previous)
    sums = one.start(1, 1)
    one.add(sums, causal_block(EXAMPLE, "天子，說"), torch.zeros(4, dtype=torch.int64))
    assert not one.failures
    assert sums.rows.item() == 3
    assert sums.sums[0, 0, 0].item() == pytest.approx(0.5 + 0.3 + 0.5)  # on the first sub-diagonal


def test_stretches_of_rows_are_summed_apart() -> None:
    """Rows are added to the stretch that they belong to."""
    one = measuring(commas=punctuation)
    sums = one.start(1, 2)
    one.add(sums, causal_block(EXAMPLE, "天子，說"), torch.tensor([0, 0, 0, 1]))
    assert sums.rows.tolist() == [[3, 1]]
    assert sums.sums[0, 0].tolist() == [0.5, 0.5]


BROKEN = {
    "raises": (lambda block: 1 / 0, "ZeroDivisionError"),  # noqa: ARG005
    "no tensor": (lambda block: 0.5, "it returned float"),  # noqa: ARG005
    "wrong shape": (lambda block: block.weights, r"it returned the shape \(2, 4, 4\)"),
    "NaN": (lambda block: block.weights.sum(-1) * math.nan, "NaN or infinity"),
    "changes the mask": (lambda block: block.visible.fill_(True)[:2, :4].float(), "it changed the block"),
    "changes the tokens": (
        lambda block: block.tokens.punctuation.fill_(True).float().expand(2, 4),
        "it changed the block",
    ),
    "changes the block": (lambda block: block.weights.mul_(2).sum(-1), "it changed the block"),
}


@pytest.mark.parametrize(("run", "told"), BROKEN.values(), ids=BROKEN)
def test_a_broken_analyzer_costs_only_itself(run: object, told: str) -> None:
    """Whatever an analyzer does wrong is told with its plugin, and the others see what they would have seen."""
    alone, beside = measuring(commas=punctuation), measuring(broken=run, commas=punctuation)
    expected, sums = alone.start(1, 1), beside.start(1, 1)
    stretch = torch.zeros(4, dtype=torch.int64)
    alone.add(expected, causal_block(EXAMPLE, "天子，說"), stretch)
    beside.add(sums, causal_block(EXAMPLE, "天子，說"), stretch)
    assert torch.equal(expected.sums[0], sums.sums[1])
    (failure,) = beside.failures
    assert (failure.name, failure.plugin, failure.distribution) == ("broken", "test", "this program")
    assert re.search(told, failure.message)


def test_strict_raises_at_once() -> None:
    """With `strict` the first failure is an error that names analyzer, plugin and distribution."""
    one = measuring(broken=lambda block: block.weights)
    one.strict = True
    with pytest.raises(PluginError, match=r"the analyzer 'broken' \(plugin 'test' from this program\) failed"):
        one.add(one.start(1, 1), causal_block(EXAMPLE, "天子，說"), torch.zeros(4, dtype=torch.int64))


def test_profile_is_the_sum_along_diagonals() -> None:
    """Sums by distance are the sums of numpy's diagonals, in whatever pieces the rows come."""
    rng = np.random.default_rng(3)
    weights = torch.from_numpy(rng.random((5, 5)).astype(np.float32)).tril()
    whole = causal_block(weights, "abcde")
    for cut in (5, 3, 1):
        profile = ProfileSums(1, 4)
        for first in range(0, 5, cut):
            part = slice(first, min(first + cut, 5))
            piece = replace(
                whole, weights=whole.weights[:, part], queries=whole.queries[part], visible=whole.visible[part]
            )
            profile.add(piece)
        expected = [np.trace(weights.numpy(), -distance) for distance in range(-4, 5)]
        np.testing.assert_allclose(profile.sums[0].numpy(), expected, atol=1e-6)
        assert profile.rows == 5


class TwoHeads(nn.Module):
    """Two heads that attend to what is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (windows, heads, tokens, width)."""
        return functional.scaled_dot_product_attention(x, x, x, is_causal=True)


def test_analyze_gives_a_frame_of_every_installed_analyzer() -> None:
    """`headwise.analyze` measures an observation; equal keys give attention that is chance itself."""
    with headwise.observe(TwoHeads()) as seen:
        TwoHeads()(torch.zeros(1, 2, 64, 4))
    frame = headwise.analyze(seen)
    first, previous = (frame[frame["analyzer"] == name] for name in ("first-token", "previous"))
    assert first["value"].tolist() == pytest.approx([0.074] * 2, abs=5e-4)  # H(64) / 64, published
    assert previous["chance"].tolist() == pytest.approx([0.059] * 2, abs=5e-4)
    difference = (frame["value"] - frame["chance"]).abs().dropna()
    assert difference.max() < 1e-6
