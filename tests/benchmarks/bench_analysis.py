"""How quickly attention is measured: every per-head analyzer in one pass, beside one of them by pandas.

    python tests/benchmarks/bench_analysis.py

One observation of a random causal model (12 heads, windows of 512 tokens) is measured by all built-in analyzers of
rows, the computation of the weights from queries and keys included. Beside it, the locality score alone is computed by
a pandas groupby over the long form of the same weights, one row for each weight, already in memory. Both are taken in
turn, and the medians are shown as weights a second.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from headwise.contracts import Analyzer
from headwise.measuring.measure import ALL_KEYS, Measuring
from headwise.measuring.preparation import parted, prepared
from headwise.observing.observation import Observation, observe
from headwise.registry import Offered, installed
from headwise.text.tokens import Tokens

HEADS, TOKENS, WIDTH, WINDOWS, ROUNDS = 12, 512, 64, 4, 5
TEXT = "話說大宋仁宗天子在位，嘉祐三年三月三日五更三點，天子駕坐紫宸殿，受百官朝賀。"


class Heads(torch.nn.Module):
    """Attention on given queries and keys."""

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Return (windows, heads, tokens, width)."""
        return torch.nn.functional.scaled_dot_product_attention(query, key, key, is_causal=True)


def observed() -> tuple[Observation, Tokens]:
    """Return an observation of random queries and keys, and the tokens of each window."""
    torch.manual_seed(0)
    model = Heads()
    query, key = torch.randn(2, WINDOWS, HEADS, TOKENS, WIDTH).unbind(0)
    with torch.no_grad(), observe(model) as seen:
        model(query, key)
    return seen, Tokens.of((TEXT * (TOKENS // len(TEXT) + 1))[:TOKENS])


@cache
def analyzers(tokens: Tokens) -> Sequence[Offered]:
    """Return every analyzer of rows whose libraries are installed, prepared with these tokens."""
    present, _ = parted([one for one in installed().offered("analyzer") if isinstance(one.value, Analyzer)])
    return prepared(present, lambda: iter([tokens]), {})[0]


def by_headwise(seen: Observation, tokens: Tokens) -> float:
    """Measure with every analyzer of rows; return the locality of the first head on the first window."""
    measuring = Measuring.of(analyzers(tokens))
    sums = [measuring.start(HEADS) for _ in range(seen.windows)]
    for block in seen.blocks([tokens] * seen.windows, even=True):
        measuring.add(sums[block.window], block, torch.zeros_like(block.queries))
    index = [one.name for one in measuring.analyzers].index("locality")
    first = sums[0].readings[ALL_KEYS]
    return float(first.sums[index, 0].sum() / first.rows[index].sum())


def long_form(seen: Observation) -> pd.DataFrame:
    """Return every visible weight as a row, in the columns and types of `headwise.open_run(...).weights()`."""
    parts = []
    for block in seen.blocks():
        query, key = block.visible.nonzero().T.numpy()
        for head, weights in enumerate(block.weights[:, block.visible].numpy()):
            columns: dict[str, Any] = {
                "document": "text",
                "window": np.int32(block.window),
                "layer": np.int16(0),
                "head": np.int16(head),
            }
            part = pd.DataFrame(
                {"query": (query + int(block.queries[0])).astype(np.int32), "key": key, "weight": weights}
            )
            parts.append(part.assign(**columns))
    return pd.concat(parts, ignore_index=True)


ROW = ["document", "window", "layer", "head", "query"]


def by_groupby(frame: pd.DataFrame) -> float:
    """Return the same locality by a groupby over the long form: each row's share, then the mean over rows."""
    near = frame["weight"].where((frame["query"] - frame["key"]).abs() <= 2, 0)  # the default distance
    rows = near.groupby([frame[name] for name in ROW]).sum()
    return float(rows.groupby(ROW[:-1]).mean().iloc[0])


def by_filter(frame: pd.DataFrame) -> float:
    """Return the same locality by a groupby over the few rows that are near, which pandas need not group first."""
    near = frame[(frame["query"] - frame["key"]).abs() <= 2]
    rows = near.groupby(ROW)["weight"].sum()
    return float(rows.groupby(ROW[:-1]).mean().iloc[0])


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    """Return the wall time of one call and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure both in turn and show the rates."""
    seen, tokens = observed()
    frame = long_form(seen)
    by_headwise(seen, tokens)  # warm up
    times: dict[str, list[float]] = {"headwise": [], "groupby": [], "filter": []}
    for _ in range(ROUNDS):
        values = {}
        for name, work in (
            ("headwise", lambda: by_headwise(seen, tokens)),
            ("groupby", lambda: by_groupby(frame)),
            ("filter", lambda: by_filter(frame)),
        ):
            taken, values[name] = seconds(work)
            times[name].append(taken)
        np.testing.assert_allclose(list(values.values()), values["headwise"], rtol=1e-4)
    show(len(frame), len(analyzers(tokens)), times)


def show(weights: int, count: int, times: dict[str, list[float]]) -> None:
    """Print the rates and the ratios of the rounds, for so many analyzers."""
    titles = {
        "headwise": f"headwise, {count} analyzers in one pass",
        "groupby": "pandas, locality alone, groupby over the long form",
        "filter": "pandas, locality alone, far weights filtered out before",
    }
    table = Table("", "million visible weights/s", "headwise is quicker by", "by numbers/s")
    for name, title in titles.items():
        rate = weights / statistics.median(times[name]) / 1e6
        ratio = statistics.median(other / own for own, other in zip(times["headwise"], times[name], strict=True))
        table.add_row(title, f"{rate:.1f}", f"{ratio:.1f}", f"{ratio * (1 if name == 'headwise' else count):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
