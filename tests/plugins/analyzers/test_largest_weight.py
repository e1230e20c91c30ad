"""The largest weight of each row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwise import Block
from headwise.testing import make_block

Mean = Callable[[str, Block], list[float]]


def test_it_is_the_mean_of_each_rows_largest(mean_of: Mean) -> None:
    """The largest weights here are 1, 0.75 and 0.5."""
    weights = torch.tensor([[[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]]])
    assert mean_of("largest-weight", make_block("天子，", weights=weights)) == pytest.approx([2.25 / 3])
