"""Checks, while the model runs, that the weights which are read are those that the kernel attended with."""

from __future__ import annotations

import math

import torch

from headwise.observing.attention_call import AttentionCall

ROWS = 8
"""Rows of a call that are checked, spread evenly over its windows and queries."""
TINY = 1e-30
"""Stands in for the largest output where all are 0."""


@torch.no_grad()
def kernel_deviation(call: AttentionCall, value: torch.Tensor, output: torch.Tensor) -> float:
    """Return how far weights times values lie from what the kernel gave, NaN where no row sees anything.

    The largest absolute difference over the checked rows, all heads, relative to the largest absolute output of these
    rows. Kernels round outputs of half precision, and so their deviations are as large as that rounding.

    Args:
        call: the call as it is read.
        value: (windows, heads or groups of heads, keys, width of a head).
        output: (windows, heads, queries, width of a head).
    """
    windows, heads, queries, keys = call.shape
    each = -(-ROWS // windows)  # rows of a window
    part = slice(0, queries, -(-queries // each))
    differences, scales = [], []
    for number in range(min(ROWS, windows)):
        window = number * windows // min(ROWS, windows)
        visible = call.visible(window, part)  # (rows, keys)
        weights = output.new_empty(heads, len(visible), keys, dtype=torch.float32)
        call.weights(window, part, visible, weights)
        mine = _outputs(weights, value[window].float())  # (heads, rows, width)
        given = output[window, :, part].float()  # (heads, rows, width)
        sees = visible.any(-1)  # (rows,)
        differences.append((mine - given).abs().amax((0, 2))[sees])
        scales.append(given.abs().amax((0, 2))[sees])
    difference, scale = torch.cat(differences), torch.cat(scales)  # (rows that see something,)
    return float(difference.max() / scale.max().clamp(min=TINY)) if len(difference) else math.nan


def _outputs(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return weights (heads, rows, keys) times values (heads or groups of heads, keys, width), (heads, rows, width)."""
    heads, rows, keys = weights.shape
    return (weights.view(len(value), -1, keys) @ value).view(heads, rows, -1)
