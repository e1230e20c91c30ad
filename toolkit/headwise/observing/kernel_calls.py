"""Watches the calls of torch's attention kernel while a model runs: observing and ablating are made of this.

A `torch.overrides.TorchFunctionMode` meets every call of `torch.nn.functional.scaled_dot_product_attention`; the
kernel itself computes the output. Hooks on the modules tell which module makes the call, and when a run of the model
begins. Nothing of the model is changed, and nothing stays behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from headwise.errors import ObservationError
from headwise.observing.attention_call import AttentionCall, CallSite


@dataclass(frozen=True, slots=True)
class KernelCall:
    """One call of the kernel, as it happens."""

    run: int
    """The number of the model's run, from 0, counting those that attend."""
    layer: int
    """The number of the call within that run, from 0: a module that is used twice is two layers."""
    attention: AttentionCall
    """What the weights are made of, without gradients."""
    value: torch.Tensor
    """(windows, heads or groups of heads, keys, width of a head)."""
    output: torch.Tensor
    """(windows, heads, queries, width of a head): what the kernel gave."""


Watcher = Callable[[KernelCall], torch.Tensor | None]
"""Is told of each call; a tensor that it returns takes the place of the output."""


@contextmanager
def watching(model: torch.nn.Module, watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of every attention call of the model while the block runs; afterwards nothing stays patched.

    Raises:
        ObservationError: the model is no module, or what it computes is not self-attention.
    """
    if not isinstance(model, torch.nn.Module):
        message = f"what is observed must be a torch.nn.Module, not {type(model).__name__}"
        raise ObservationError(message)
    place = _Place()
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            enter = module.register_forward_pre_hook(place.entering(name or type(model).__name__))
            hooks.callback(enter.remove)
            leave = module.register_forward_hook(place.leave, always_call=True)
            hooks.callback(leave.remove)
        with _Calls(place, watcher):
            yield


class _Place:
    """Where the model is: the modules that are in their forward now, and the calls of this run so far."""

    def __init__(self) -> None:
        self._running: list[str] = []  # outermost first
        self._run = -1
        self._next_layer = 0
        self._opens = True  # whether the next call is the first of a run of the model

    @property
    def module(self) -> str:
        return self._running[-1] if self._running else "model"

    def entering(self, name: str) -> Callable[..., None]:
        def enter(*_: object) -> None:
            if not self._running:
                self._opens = True
            self._running.append(name)

        return enter

    def leave(self, *_: object) -> None:
        self._running.pop()

    def call(self) -> tuple[int, int]:
        """Count one more call; return its run and its layer."""
        if self._opens:
            self._run, self._next_layer, self._opens = self._run + 1, 0, False
        self._next_layer += 1
        return self._run, self._next_layer - 1


class _Calls(TorchFunctionMode):
    """Lets every torch function run as it is, and tells of what the attention kernel was given and gave."""

    def __init__(self, place: _Place, watcher: Watcher) -> None:
        super().__init__()
        self._place = place
        self._watcher = watcher

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],  # torch's signature
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is scaled_dot_product_attention:
            instead = self._watcher(self._told(result, *args, **kwargs))
            return result if instead is None else instead
        return result

    def _told(
        self,
        output: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG002  # weights are shown as they are before dropout
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: ARG002  # told from the shapes
    ) -> KernelCall:
        module = self._place.module
        if query.ndim != len(("windows", "heads", "tokens", "width")):
            message = f"{module} attends with {query.ndim} axes; headwise reads (windows, heads, tokens, width)"
            raise ObservationError(message)
        if query.shape[-2] != key.shape[-2]:
            message = (
                f"{module} attends from {query.shape[-2]} queries to {key.shape[-2]} keys; headwise reads "
                "self-attention, where they are the same tokens"
            )
            raise ObservationError(message)
        attention = AttentionCall(
            CallSite(module),
            query.detach(),
            key.detach(),
            None if attn_mask is None else attn_mask.detach(),
            is_causal,
            1 / math.sqrt(query.shape[-1]) if scale is None else scale,
        )
        return KernelCall(*self._place.call(), attention, value, output)
