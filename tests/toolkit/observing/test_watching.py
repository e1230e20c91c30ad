"""Watching the attention kernel: where each call is made, and what a watcher can put in place of its output."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from headwise.errors import ObservationError
from headwise.observing.kernel_calls import KernelCall
from headwise.observing.observation import observe
from headwise.observing.watching import watching


class Layer(nn.Module):
    """Attends to what comes in, two heads of width 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (windows, tokens, 4)."""
        heads = x.reshape(*x.shape[:2], 2, 2).transpose(1, 2)
        return functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)


class Stack(nn.Module):
    """Two layers, of which the first is used again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Layer(), Layer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (windows, tokens, 4)."""
        out: torch.Tensor = self.first(self.second(self.first(x)))
        return out


X = torch.arange(12.0).reshape(1, 3, 4) / 12


def test_each_call_is_told_with_its_run_its_layer_and_its_module() -> None:
    """Layers count the calls of one run of the model, runs count its runs; a module alone is a run of its own."""
    model = Stack()
    told: list[tuple[int, int, str]] = []

    def note(call: KernelCall) -> None:
        told.append((call.run, call.layer, call.attention.layer))

    with watching(model, note):
        model(X)
        model.second(X)
        model(X)
    once = [(0, "first"), (1, "second"), (2, "first")]
    assert told == [(0, *one) for one in once] + [(1, 0, "second")] + [(2, *one) for one in once]


def test_what_a_watcher_returns_takes_the_place_of_the_output() -> None:
    """A watcher that returns nothing changes no bit; one that returns a tensor is believed."""
    model = Stack()
    outputs: list[torch.Tensor] = []

    def look(call: KernelCall) -> None:
        outputs.append(call.of_the_kernel()[2])

    with watching(model, look):
        assert torch.equal(model(X), Stack()(X))
    assert outputs[-1].shape == (1, 2, 3, 2)
    with watching(model, lambda call: call.of_the_kernel()[2] * 0 + call.layer):
        assert torch.equal(model(X), torch.full_like(X, 2.0))


def test_watchers_may_stand_one_in_another() -> None:
    """Observing within a block that replaces outputs sees the attention of the model as it then runs."""
    model = Stack()
    with watching(model, lambda call: call.of_the_kernel()[2] * 0 if call.layer == 0 else None), observe(model) as seen:
        model(X)
    (block,) = seen.blocks()
    even = torch.ones(3, 3).tril() / torch.arange(1, 4)[:, None]
    assert torch.equal(block.weights[2:], even.expand(4, 3, 3))  # after zeros every key is alike
    assert not torch.equal(block.weights[:2], even.expand(2, 3, 3))


def test_what_is_no_module_is_refused() -> None:
    """A function cannot be watched, and whoever tries is told so."""
    with pytest.raises(ObservationError, match=r"must be a torch\.nn\.Module, not builtin"), watching(len, print):  # type: ignore[arg-type]
        pass
