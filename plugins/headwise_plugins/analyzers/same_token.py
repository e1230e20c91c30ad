"""How much a head looks at other places where the query's own token stands.

A head that finds repetitions looks from a character back to where the same character stood before; such a head is
called a duplicate-token head. What counts is the text of the token: a character that the model does not know is still
the same as itself, and `The` is not `the`.

The query itself does not count, nor do padding and special tokens. Neither do rows of punctuation marks: most marks
have stood before, so a head that gathers on punctuation would pass for one that finds repetitions. Only rows with
another token of the same text in view are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwise import Analyzer, hookimpl

if TYPE_CHECKING:
    import torch

    from headwise import Block


def text_numbers(block: Block) -> torch.Tensor:
    """Return a number for each text among the keys, -1 for punctuation, padding and special tokens; int64 (keys,)."""
    return block.once(_text_numbers)


def _text_numbers(block: Block) -> torch.Tensor:
    import torch

    tokens, known = block.tokens, dict[str, int]()
    numbers = torch.tensor([known.setdefault(text, len(known)) for text in tokens.texts], dtype=torch.int64)  # (keys,)
    return numbers.to(tokens.ids.device).masked_fill(tokens.punctuation | tokens.special | tokens.padding, -1)


def same_token(block: Block) -> torch.Tensor:
    """Return the share of each row's attention on others of its token; float32 (heads, queries), in 0..1."""
    import torch

    return torch.einsum("hqk,qk->hq", block.weights, block.once(_others_of_it).to(block.weights))


def sees_same_token(block: Block) -> torch.Tensor:
    """Tell which rows have another token of the query's text in view; bool (queries,)."""
    return block.once(_others_of_it).any(-1)


def _others_of_it(block: Block) -> torch.Tensor:
    """Tell which visible keys have the query's text and are not the query; bool (queries, keys)."""
    numbers = text_numbers(block)  # (keys,)
    asked = numbers[block.queries][:, None]  # (queries, 1)
    return block.visible & (numbers == asked) & (asked >= 0) & (block.distances != 0)


@hookimpl
def headwise_analyzers() -> Iterable[Analyzer]:
    """Offer `same-token`."""
    yield Analyzer(
        name="same-token",
        run=same_token,
        rows=sees_same_token,
        unit="share",
        bounds=(0, 1),
        summary="share of attention on other places of the same token",
        formula="mean over the rows i, not of punctuation, that see such a key of Σ α(i, j) over the keys j ≠ i with "
        "x(j) = x(i)",
        source="the duplicate-token heads of Wang et al. 2022, Interpretability in the Wild, section 3, as "
        "TransformerLens measures them; on running text, and over all places where the token stands",
        sentence="puts {value} of its attention on other places of the same token",
    )
