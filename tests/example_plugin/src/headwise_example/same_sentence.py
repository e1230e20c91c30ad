"""How much of its attention a head keeps within the sentence of the query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwise import Analyzer, hookimpl

if TYPE_CHECKING:
    import torch

    from headwise import Block


def same_sentence(block: Block) -> torch.Tensor:
    """Tell which keys are of the query's own sentence; bool (queries, keys)."""
    tokens = block.tokens
    sentence = tokens.sentence_start.cumsum(0).masked_fill(tokens.padding, -1)  # (keys,): the number of the sentence
    return sentence[block.queries][:, None] == sentence


@hookimpl
def headwise_analyzers() -> Iterable[Analyzer]:
    """Offer `same-sentence`."""
    yield Analyzer(
        name="same-sentence",
        keys=same_sentence,
        unit="share",
        bounds=(0, 1),
        summary="share of attention within the sentence",
        formula="mean over rows i of Σ α(i, j) over the keys j in the sentence of i",
        sentence="keeps {value} of its attention within the sentence",
    )
