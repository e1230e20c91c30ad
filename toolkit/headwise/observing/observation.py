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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from headwise.errors import ObservationError
from headwise.observing.attention_call import AttentionCall
from headwise.observing.block import EVEN, Block, HeadName, even_weights
from headwise.observing.kernel_calls import KernelCall, watching
from headwise.text.tokens import Tokens

BLOCK_BYTES = 2 * 2**20
"""Weights of one block, at most, unless told otherwise (one query row is the least): small enough for the processor's
cache, and so that the rows of a causal model do not pay for the keys that later rows see."""


class Observation:
    """The attention that was seen.

    Windows are numbered through all calls of the model in the observed block: the first batch, then the next.
    """

    def __init__(self) -> None:
        self._passes: list[list[AttentionCall]] = []

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

    def _note(self, call: KernelCall) -> None:
        if call.layer == 0:
            self._passes.append([])
        self._passes[call.run].append(call.attention)


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
    seen = Observation()
    with watching(model, seen._note):  # noqa: SLF001  # the observation is filled here alone
        yield seen


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
    return Tokens(tuple(map(str, range(length))), unknown, places, unknown, unknown, no, no, no, no, no, no, no, no)
