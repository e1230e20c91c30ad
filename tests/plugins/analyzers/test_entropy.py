"""How widely a head spreads its attention."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from scipy.stats import entropy as second_entropy

from headwise import Block
from headwise.testing import make_block
from headwise_plugins.analyzers.entropy import entropy, entropy_share, has_a_choice

Mean = Callable[[str, Block], list[float]]


def test_a_coin_has_the_entropy_of_a_coin(mean_of: Mean) -> None:
    """Half and half is ln 2, one quarter and three quarters what is computed by hand, one key alone 0."""
    weights = torch.tensor([[[1, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]]])
    by_hand = 0.25 * log(4) + 0.75 * log(4 / 3)
    block = make_block("天子，", weights=weights)
    assert entropy(block)[0].tolist() == pytest.approx([0, log(2), by_hand])
    assert entropy_share(block)[0].tolist() == pytest.approx([0, 1, by_hand / log(3)])
    assert mean_of("entropy-share", block) == pytest.approx([(1 + by_hand / log(3)) / 2])


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 30.0, 200.0])
def test_it_agrees_with_scipy(sharpness: float) -> None:
    """SciPy's entropy of each row is the same, even where weights underflow to 0."""
    block = make_block(sharpness=sharpness)
    expected = second_entropy(block.weights.double().numpy(), axis=-1)
    assert entropy(block).numpy() == pytest.approx(expected, abs=1e-5)


def test_a_row_without_a_choice_does_not_count() -> None:
    """The first causal row sees one key alone."""
    assert has_a_choice(make_block("天子，")).tolist() == [False, True, True]
