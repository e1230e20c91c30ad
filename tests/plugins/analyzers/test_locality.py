"""How near a head looks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwise import Block
from headwise.block import even_weights
from headwise.testing import make_block
from headwise_plugins.analyzers.locality import locality

Mean = Callable[[str, Block], list[float]]


@pytest.mark.parametrize(("tokens", "expected"), [(64, 0.309), (128, 0.187), (256, 0.110)])
def test_another_distance_gives_its_published_chance_value(tokens: int, expected: float) -> None:
    """Even causal attention has these shares within five tokens."""
    plain = make_block("a" * tokens, heads=1)
    block = make_block("a" * tokens, weights=even_weights(plain.visible)[None])
    assert float(locality(5).run(block).mean()) == pytest.approx(expected, abs=5e-4)


def test_both_sides_count(mean_of: Mean) -> None:
    """In both directions, even attention over five tokens has 3, 4, 5, 4 and 3 of 5 keys within two."""
    block = make_block("abcde", weights=torch.full((1, 5, 5), 0.2), causal=False)
    assert mean_of("locality", block) == pytest.approx([19 / 25])


def test_distance_is_weighted_by_attention(mean_of: Mean) -> None:
    """A row that looks three quarters at itself and a quarter at the token four before it looks one token away."""
    weights = torch.eye(5)
    weights[4] = torch.tensor([0.25, 0, 0, 0, 0.75])
    block = make_block("abcde", weights=weights[None])
    assert mean_of("mean-distance", block) == pytest.approx([1 / 5])


def test_distance_ahead_counts_like_distance_back(mean_of: Mean) -> None:
    """Heads on the previous and on the next token look equally far."""
    back, ahead = torch.diag(torch.ones(4), -1), torch.diag(torch.ones(4), 1)
    block = make_block("abcde", weights=torch.stack([back, ahead]), causal=False)
    assert mean_of("mean-distance", block) == pytest.approx([4 / 5, 4 / 5])
