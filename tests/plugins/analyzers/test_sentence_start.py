"""Attention on the starts of sentences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwise import Block
from headwise.testing import make_block

Mean = Callable[[str, Block], list[float]]


def test_the_first_token_after_a_full_stop_counts(mean_of: Mean) -> None:
    """Of 天子。鳳, sentences start at 天 and 鳳."""
    block = make_block("天子。鳳", weights=torch.tensor([[[0.1, 0.2, 0.3, 0.4]] * 4]), causal=False)
    assert mean_of("sentence-start", block) == pytest.approx([0.1 + 0.4])
