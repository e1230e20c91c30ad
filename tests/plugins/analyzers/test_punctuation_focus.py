"""Attention on punctuation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headwise import Block
from headwise.testing import make_block

Mean = Callable[[str, Block], list[float]]


def test_marks_of_both_widths_count(mean_of: Mean) -> None:
    """Of 天，a, the second and the fourth token are marks."""
    block = make_block("天，a,", weights=torch.tensor([[[0.1, 0.2, 0.3, 0.4]] * 4]), causal=False)
    assert mean_of("punctuation-focus", block) == pytest.approx([0.2 + 0.4])


def test_chance_is_the_share_of_marks_in_view(mean_of: Mean) -> None:
    """Even causal attention over 天，子 has 0, 1/2 and 1/3 of its attention on the mark."""
    even = torch.tensor([[[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]]])
    assert mean_of("punctuation-focus", make_block("天，子", weights=even)) == pytest.approx([(1 / 2 + 1 / 3) / 3])
