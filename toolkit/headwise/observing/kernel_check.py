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
    rows = windows * queries
    differences, outputs = [], []
    for number in range(min(ROWS, rows)):
        window, row = divmod(rows * number // min(ROWS, rows), queries)
        part = slice(row, row + 1)
        visible = call.visible(window, part)  # (1, keys)
        weights = output.new_empty(heads, 1, keys, dtype=torch.float32)
        call.weights(window, part, visible, weights)
        mine = _outputs(weights, value[window].float())  # (heads, width)
        given = output[window, :, row].float()  # (heads, width)
        sees = visible.any()
        differences.append(torch.where(sees, (mine - given).abs().max(), math.nan))
        outputs.append(torch.where(sees, given.abs().max(), math.nan))
    largest = torch.stack(differences)  # (rows,)
    checked = ~largest.isnan()
    if not bool(checked.any()):
        return math.nan
    return float(largest[checked].max() / torch.stack(outputs)[checked].max().clamp(min=TINY))


def _outputs(weights: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return weights (heads, 1, keys) times values (heads or groups of heads, keys, width), (heads, width)."""
    shared = weights.view(len(value), -1, weights.shape[-1])  # (groups, heads of a group, keys)
    return (shared @ value).flatten(0, 1)
