"""Importance: by one backward pass, how much the loss depends on each head (Michel, Levy and Neubig 2019, section 4.1).

Each head's output is multiplied by a mask of one, and the importance of a head is the expected absolute gradient of the
loss with respect to its mask:

    I(h) = sum over windows x of |dL(x) / dmask(h, x)| / tokens,   L(x) = sum of the losses of the window's tokens

To first order, setting the mask of a head to zero changes the loss of a window by -dL(x)/dmask, so this is in the unit
of the loss, a token, like a change by ablation. Two things differ from the paper: the absolute value is taken for each
window, as its formula says, where programs that take it of a batch let windows cancel out; and layers are not scaled
to length 1 (its appendix), since that would hide which layers matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from headwise.observing.kernel_calls import KernelCall
from headwise.observing.watching import watching


def importance(
    model: torch.nn.Module, losses: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Return the importance of every head, for each layer float64 (heads,), in the unit of the loss, a token.

    Args:
        model: the model that `losses` runs.
        losses: returns the loss of each token, float (windows, tokens) with gradients, for ids, int64 (windows,
            tokens); NaN where there is none. The loss of a window must not depend on the other windows.
        batches: ids, int64 (windows, tokens).
    """
    sums: dict[int, torch.Tensor] = {}
    tokens = 0
    for ids in batches:
        masks: dict[int, torch.Tensor] = {}  # layer -> ones (windows, heads, 1, 1)

        def mask(call: KernelCall, masks: dict[int, torch.Tensor] = masks) -> torch.Tensor:
            _, _, output = call.of_the_kernel()
            if call.layer not in masks:
                masks[call.layer] = torch.ones_like(output[:, :, :1, :1], requires_grad=True)
            return output * masks[call.layer]

        with torch.enable_grad(), watching(model, mask, needs_output=True):
            taken = losses(ids)
        tokens += int((~taken.isnan()).sum())
        layers = sorted(masks)
        gradients = torch.autograd.grad(taken.nansum(), [masks[layer] for layer in layers], materialize_grads=True)
        for layer, gradient in zip(layers, gradients, strict=True):
            total = gradient[:, :, 0, 0].abs().cpu().double().sum(0)  # (heads,)
            sums[layer] = sums.get(layer, 0) + total
    return tuple(sums[layer] / max(tokens, 1) for layer in sorted(sums))
