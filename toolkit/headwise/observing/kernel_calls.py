"""What is told of each call of torch's attention kernel, and to whom."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from headwise.errors import ObservationError
from headwise.observing.attention_call import AttentionCall, SeenCall
from headwise.observing.heads import ByHead
from headwise.observing.running_modules import RunningModules
from headwise.observing.torch_modules import KernelInput
from headwise.observing.unseen import Unseen


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call of the kernel, as it happens."""

    run: int
    """The number of the model's run, from 0, counting those that attend."""
    layer: int
    """The number of the call within that run, from 0: a module that is used twice is two layers."""
    attention: SeenCall
    """What the weights are made of, without gradients."""
    value: torch.Tensor | None
    """(windows, heads or groups of heads, keys, width of a head), without gradients; None where weights were given to
    `headwise.record`."""
    output: torch.Tensor | None
    """(windows, heads, queries, width of a head): what the kernel gave. None for `headwise.record`, and where a module
    of torch attends without its kernel and the watcher needs no output."""
    dropout: float = 0.0
    """The share of the weights that the kernel set to zero before it gave its output."""

    def of_the_kernel(self) -> tuple[AttentionCall, torch.Tensor, torch.Tensor]:
        """Return attention, value and output, for a watcher that needs outputs.

        Raises:
            ObservationError: the weights were given to `headwise.record`.
        """
        if not isinstance(self.attention, AttentionCall) or self.value is None or self.output is None:
            message = (
                f"layer {self.layer} ({self.attention.layer}) was given to headwise.record, so what its heads put out "
                "is not known; ablate layers that call torch.nn.functional.scaled_dot_product_attention"
            )
            raise ObservationError(message)
        return self.attention, self.value, self.output


Watcher = Callable[[KernelCall], torch.Tensor | None]
"""Is told of each call; a tensor that it returns takes the place of the output."""


@dataclass(slots=True)
class Watch:
    """One block that watches one model."""

    watcher: Watcher
    needs_output: bool
    running: RunningModules
    unseen: Unseen
    calls: int = 0

    def tell(self, given: KernelInput, output: torch.Tensor | None, at: torch.nn.Module) -> torch.Tensor | None:
        """Tell of a call that the module `at` makes; return what takes the place of the output."""
        name = self.running.name_of(at)
        heads = ByHead.of(given, self.running.windows, at, name)
        attention = AttentionCall(
            self.running.site(name, heads.key.shape[-2]),
            heads.query.detach(),
            heads.key.detach(),
            None if heads.mask is None else heads.mask.detach(),
            given.is_causal,
            1 / math.sqrt(given.query.shape[-1]) if given.scale is None else given.scale,
        )
        by_head = None if output is None else heads.output(output)
        instead = self.told(attention, heads.value.detach(), by_head, given.dropout_p)
        return None if instead is None or output is None else instead.reshape(output.shape)

    def told(
        self,
        attention: SeenCall,
        value: torch.Tensor | None = None,
        output: torch.Tensor | None = None,
        dropout: float = 0.0,
    ) -> torch.Tensor | None:
        """Tell of attention that was seen; return what takes the place of the output."""
        self.calls += 1
        return self.watcher(KernelCall(*self.running.next_call(), attention, value, output, dropout))
