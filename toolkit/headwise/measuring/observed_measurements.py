"""observation -> measurements: `headwise.analyze`, for anybody's model and text, without a run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from headwise import registry as plugins
from headwise.contracts import Analyzer
from headwise.failure import Failure
from headwise.measuring.measure import ALL_KEYS, TENSORS, Measuring
from headwise.measuring.preparation import parted, prepared
from headwise.measuring.sums import DocumentSums
from headwise.observing.observation import Observation
from headwise.registry import Offered
from headwise.text.tokens import Tokens

if TYPE_CHECKING:
    import pandas as pd


def analyze(seen: Observation, tokens: Tokens | Sequence[Tokens] | None = None) -> pd.DataFrame:
    """Measure an observation with every installed analyzer.

    Returns one row for each window, layer, head and analyzer: window, layer, head, analyzer, rows, value, chance.
    `tokens` are the tokens of each window; without them only analyzers of positions tell something. An analyzer that
    depends on the corpus takes these windows for it, and is left out without them, as is one whose libraries are not
    installed. A plugin that fails is left out with a `headwise.registry.PluginWarning`.

    Raises:
        ObservationError: nothing was seen, or the tokens do not fit the windows.
    """
    import pandas as pd

    given = [tokens] if isinstance(tokens, Tokens) else tokens
    offered, failures = _prepared_with(given)
    measuring = Measuring.of(offered)
    measuring.failures.extend(failures)
    windows = measuring.whole(partial(_measured, seen, given, measuring))
    for failure in measuring.failures:
        warnings.warn(failure.sentence, plugins.PluginWarning, stacklevel=2)
    failed = {failure.name for failure in measuring.failures}
    return pd.DataFrame(
        {"window": number, "layer": name.layer, "head": name.head, "analyzer": one.name, "rows": int(rows),
         "value": measured.sums[index, head].sum().item() / rows if rows else math.nan,
         "chance": measured.sums[index, -1].sum().item() / rows if rows else math.nan}
        for number, sums in enumerate(windows)
        for measured in [sums.readings[ALL_KEYS]]
        for index, one in enumerate(offered)
        if one.name not in failed
        for rows in [measured.rows[index].sum().item()]
        for head, name in enumerate(seen.heads)
    )  # fmt: skip


def _measured(seen: Observation, tokens: Sequence[Tokens] | None, measuring: Measuring) -> list[DocumentSums]:
    """Measure each window."""
    windows = [measuring.start(len(seen.heads)) for _ in range(seen.windows)]
    own = None if tokens is None else [_copied(window) for window in tokens]  # not the caller's, if one changes them
    for block in seen.blocks(own, even=True):
        measuring.add(windows[block.window], block, torch.zeros_like(block.queries).cpu())
    return windows


def _copied(tokens: Tokens) -> Tokens:
    return replace(tokens, **{name: getattr(tokens, name).clone() for name in TENSORS})


def _prepared_with(windows: Sequence[Tokens] | None) -> tuple[list[Offered], list[Failure]]:
    """Return the installed analyzers of rows, prepared with these windows."""
    present, _ = parted([one for one in plugins.installed().offered("analyzer") if isinstance(one.value, Analyzer)])
    if windows is None:
        return [one for one in present if getattr(one.value, "prepare", None) is None], []
    return prepared(present, lambda: iter(windows), {})
