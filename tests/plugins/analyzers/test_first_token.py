"""Attention on the first token of the window."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwise import Block
from headwise.testing import make_block, rows_of

Mean = Callable[[str, Block], list[float]]


def test_it_is_the_first_column(mean_of: Mean) -> None:
    """The mean of the first column of the weights, for rows from the middle of a window too."""
    weights = torch.tensor([[[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]]])
    block = make_block("天子，", weights=weights)
    assert mean_of("first-token", block) == pytest.approx([1.75 / 3])
    assert mean_of("first-token", rows_of(block, 1, 3)) == pytest.approx([0.75 / 2])
