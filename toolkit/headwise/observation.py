"""observe: sees every attention call of a PyTorch model while it runs, without changing the model.

    with headwise.observe(model) as seen:
        model(ids)
    for block in seen.blocks(tokens):
        block.weights                      # float32 (heads, queries, keys)

torch's own kernel computes the outputs, so they are the same bits as without observation. Queries, keys and mask of
each call are kept; the weights are computed from them afterwards, a block of query rows at a time, so memory grows
with tokens x width and never with tokens x tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from headwise.attention_call import AttentionCall
from headwise.block import EVEN, Block, HeadName, even_weights
from headwise.errors import ObservationError
from headwise.tokens import Tokens

BLOCK_BYTES = 2 * 2**20
"""Weights of one block, at most, unless told otherwise (one query row is the least): small enough for the processor's
cache, and so that the rows of a causal model do not pay for the keys that later rows see."""


class Observation:
    """The attention that was seen.

    Windows are numbered through all calls of the model in the observed block: the first batch, then the next.
    """

    def __init__(self) -> None:
        self._passes: list[list[AttentionCall]] = []
        self._open = True  # whether the next call is the first of a run of the model

    @property
    def layers(self) -> list[str]:
        """The names of the modules whose attention was seen, in the order of their calls."""
        return [call.layer for call in self._passes[0]] if self._passes else []

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """The (layer, head) of every head, in order."""
        calls = self._passes[0] if self._passes else []
        return tuple(HeadName(layer, head) for layer, call in enumerate(calls) for head in range(call.query.shape[1]))

    @property
    def windows(self) -> int:
        """How many windows the model read."""
        return sum(calls[0].query.shape[0] for calls in self._passes)

    def blocks(
        self,
        tokens: Tokens | Sequence[Tokens] | None = None,
        *,
        even: bool = False,
        memory: int = BLOCK_BYTES,
    ) -> Iterator[Block]:
        """Walk the weights in blocks of query rows, window by window.

        Args:
            tokens: the tokens of each window, padding included; without them positions stand in. Query rows of
                padding tokens are left out.
            even: append a head that attends evenly to all that it can see; its values are the chance values.
            memory: bytes that the weights of one block may take.

        Raises:
            ObservationError: nothing was seen, or the tokens do not fit the windows.
        """
        if not self._passes:
            message = (
                "no attention was seen: inside the block, run a model that calls "
                "torch.nn.functional.scaled_dot_product_attention itself (nn.MultiheadAttention hides its call)"
            )
            raise ObservationError(message)
        given = [tokens] if isinstance(tokens, Tokens) else tokens
        if given is not None and len(given) != self.windows:
            message = f"tokens of {len(given)} windows were given, but the model read {self.windows}; give one for each"
            raise ObservationError(message)
        number = 0
        for calls in self._passes:
            for window in range(calls[0].query.shape[0]):
                own = given[number] if given else None
                for block in _blocks(calls, window, own, even=even, memory=memory):
                    yield replace(block, window=number)
                number += 1

    def __repr__(self) -> str:
        return f"<observed attention: {self.windows} windows, {len(self.layers)} layers, {len(self.heads)} heads>"

    def _begin(self) -> None:
        """Take what follows as another run of the model."""
        self._open = True

    def _add(self, call: AttentionCall) -> None:
        if self._open:
            self._passes.append([])
            self._open = False
        self._passes[-1].append(call)


@contextmanager
def observe(model: torch.nn.Module) -> Iterator[Observation]:
    """Observe a model's attention while the block runs; afterwards nothing stays patched.

    >>> layer = torch.nn.Linear(4, 4)
    >>> class Tiny(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    >>> model = Tiny()
    >>> with observe(model) as seen:
    ...     _ = model(torch.zeros(1, 2, 3, 4))
    >>> next(seen.blocks()).weights[0].tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.333..., 0.333..., 0.333...]]
    """
    if not isinstance(model, torch.nn.Module):
        message = f"observe takes a torch.nn.Module, not {type(model).__name__}"
        raise ObservationError(message)
    seen = Observation()
    running: list[str] = []  # the modules that are in their forward now, outermost first
    handles = []
    for name, module in model.named_modules():
        label = name or type(model).__name__
        handles.append(module.register_forward_pre_hook(_entering(seen, running, label)))
        handles.append(module.register_forward_hook(_leaving(running), always_call=True))
    try:
        with _KernelCalls(seen, running):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


class _KernelCalls(TorchFunctionMode):
    """Lets every torch function run as it is, and notes what the attention kernel was given."""

    def __init__(self, seen: Observation, running: Sequence[str]) -> None:
        super().__init__()
        self._seen = seen
        self._running = running

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
            self._note(*args, **kwargs)
        return result

    def _note(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,  # noqa: ARG002  # the kernel's signature
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,  # noqa: ARG002  # weights are shown as they are before dropout
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,  # noqa: ARG002  # told from the shapes
    ) -> None:
        layer = self._running[-1] if self._running else "model"
        if query.ndim != len(("windows", "heads", "tokens", "width")):
            message = f"{layer} attends with {query.ndim} axes; headwise reads (windows, heads, tokens, width)"
            raise ObservationError(message)
        if query.shape[-2] != key.shape[-2]:
            message = (
                f"{layer} attends from {query.shape[-2]} queries to {key.shape[-2]} keys; headwise reads "
                "self-attention, where they are the same tokens"
            )
            raise ObservationError(message)
        self._seen._add(  # noqa: SLF001  # the observation is filled here alone
            AttentionCall(
                layer,
                query.detach(),
                key.detach(),
                None if attn_mask is None else attn_mask.detach(),
                is_causal,
                1 / math.sqrt(query.shape[-1]) if scale is None else scale,
            )
        )


def _entering(seen: Observation, running: list[str], label: str) -> Callable[..., None]:
    def enter(*_: object) -> None:
        if not running:
            seen._begin()  # noqa: SLF001  # the observation is filled here alone
        running.append(label)

    return enter


def _leaving(running: list[str]) -> Callable[..., None]:
    def leave(*_: object) -> None:
        running.pop()

    return leave


def _blocks(
    calls: Sequence[AttentionCall], window: int, tokens: Tokens | None, *, even: bool, memory: int
) -> Iterator[Block]:
    length = calls[0].query.shape[-2]
    tokens = _positions(length) if tokens is None else tokens
    if len(tokens) != length:
        message = f"a window has {length} tokens, but {len(tokens)} were given for it; give those that the model read"
        raise ObservationError(message)
    device = calls[0].query.device
    tokens = tokens.to(device)
    heads = tuple(HeadName(layer, head) for layer, call in enumerate(calls) for head in range(call.query.shape[1]))
    real = (~tokens.padding).nonzero().flatten().tolist()
    start, stop = (real[0], real[-1] + 1) if real else (0, 0)
    rows = max(1, memory // (4 * (len(heads) + even) * length))
    for first in range(start, stop, rows):
        part = slice(first, min(first + rows, stop))
        visible = _common_visible(calls, window, part)  # (rows, length)
        reached = visible.any(0).nonzero()
        keys = max(int(reached[-1]) + 1 if len(reached) else 0, part.stop)
        visible = visible[:, :keys]
        weights = torch.empty(len(heads) + even, part.stop - part.start, keys, device=device)  # (heads, rows, keys)
        done = 0
        for call in calls:
            count = call.query.shape[1]
            call.weights(window, part, visible, weights[done : done + count])
            done += count
        if even:
            weights[-1] = even_weights(visible)
        queries = torch.arange(part.start, part.stop, device=device)
        yield Block(weights, heads + (EVEN,) * even, queries, tokens[:keys], visible, tokens)


def _common_visible(calls: Sequence[AttentionCall], window: int, rows: slice) -> torch.Tensor:
    visible = calls[0].visible(window, rows)
    for call in calls[1:]:
        if call.causal == calls[0].causal and call.mask is calls[0].mask:
            continue
        if not torch.equal(visible, call.visible(window, rows)):
            message = f"{calls[0].layer} and {call.layer} see different keys; headwise needs one mask for all layers"
            raise ObservationError(message)
    return visible


def _positions(length: int) -> Tokens:
    """Tokens of which nothing is known but their places."""
    places = torch.arange(length)
    no = torch.zeros(length, dtype=torch.bool)
    unknown = torch.full((length,), -1)
    return Tokens(tuple(map(str, range(length))), unknown, places, unknown, unknown, no, no, no, no, no, no, no)
