"""Whether a head's largest weight lies on the rarest token in view.

For each row, the tokens of the text that it can see are compared by how often they occur in the corpus; those with the
smallest count are the rarest, all of them where several have it. The row's number is the part of its largest weight
that is on one of them: 1, or a fraction where several keys share the largest weight (see `points-at-previous`). So even
attention gives the share of the rarest among the keys in view. Padding and special tokens are never the rarest. Rows
that see only tokens of the same count have nothing to choose from and are left out.

Voita et al. compare the tokens of a sentence, all of which their encoder sees, and leave out sentences whose rarest
token is among the 500 most frequent ones of the corpus. Here it is what the row can see in its window, as the models
read windows; and no row is left out for that reason, since a corpus of characters may not have 500 different ones.

Counts are those of the corpus once the analyzer is prepared; until then, as in `headwise.analyze`, those of the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headwise import Analyzer, hookimpl
from headwise.errors import SettingsError
from headwise_plugins.analyzers.pointing import pointed

if TYPE_CHECKING:
    import torch

    from headwise import Block, Material


def rare_token(block: Block, counts: Mapping[str, int] | None = None) -> torch.Tensor:
    """Return how much of each row's pointing falls on the rarest token in view.

    Args:
        block: the rows.
        counts: how often each text occurs in the corpus, 0 where it does not; without them, those of the window.

    Returns:
        float32 (heads, queries), in 0..1.
    """
    import torch

    rarest, _ = _told_apart(block, counts)
    return torch.einsum("hqk,qk->hq", pointed(block), rarest.to(block.weights))


def sees_rarer(block: Block, counts: Mapping[str, int] | None = None) -> torch.Tensor:
    """Tell which rows see tokens of which some are rarer than others; bool (queries,)."""
    rarest, seen = _told_apart(block, counts)
    return rarest.any(-1) & (seen & ~rarest).any(-1)


def _told_apart(block: Block, counts: Mapping[str, int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which visible tokens of the text are the rarest, and which there are; twice bool (queries, keys)."""
    import torch

    tokens = block.tokens
    counts = Counter(block.window_tokens.texts) if counts is None else counts
    frequency = torch.tensor([counts.get(text, 0) for text in tokens.texts], device=block.queries.device)  # (keys,)
    seen = block.visible & ~(tokens.padding | tokens.special)  # (queries, keys)
    by_row = torch.where(seen, frequency, torch.iinfo(frequency.dtype).max)  # (queries, keys)
    return seen & (by_row == by_row.amin(-1, keepdim=True)), seen


def prepare(material: Material) -> Analyzer:
    """Return the analyzer with the counts of the corpus.

    Raises:
        SettingsError: an option is set, and there is none to set.
    """
    if material.options:
        message = f"the analyzer '{ANALYZER.name}' has no options; take out {', '.join(sorted(material.options))}"
        raise SettingsError(message)
    counts: Counter[str] = Counter()
    for tokens in material.documents():
        counts.update(tokens.texts)
    return replace(ANALYZER, run=partial(rare_token, counts=counts), rows=partial(sees_rarer, counts=counts))


ANALYZER = Analyzer(
    name="rare-token",
    run=rare_token,
    rows=sees_rarer,
    unit="share",
    bounds=(0, 1),
    summary="share of rows whose largest weight is on the rarest token in view",
    formula="mean over the rows i that see tokens of different counts of m/n, where n keys share the largest α(i, j) "
    "and for m of them no token in view has a smaller count than x(j)",
    source="the rare words of Voita et al. 2019, Analyzing Multi-Head Self-Attention, section 5.3; among what a row "
    "sees in place of a sentence, and without leaving out the 500 most frequent tokens",
    sentence="has its largest weight on the rarest token in view in {value} of the rows",
    prepare=prepare,
)


@hookimpl
def headwise_analyzers() -> Iterable[Analyzer]:
    """Offer `rare-token`."""
    yield ANALYZER
