"""blocks -> analyzers: runs every analyzer over every block, and keeps sums alone.

Each head's number depends on that head's rows alone, so further heads are appended to every block: even attention,
always the last, is what gives chance, and `headwise.nulls` tells of the others. Memory does not grow with the corpus:
sums are kept by document, stretch of rows, head and analyzer, in float64, so that no result depends on the size of the
blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import torch

from headwise import registry as plugins
from headwise.block import Block, HeadName
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.errors import PluginError
from headwise.failure import Failure
from headwise.first_key import without_first_key
from headwise.measured_rows import MeasuredRows
from headwise.nulls import NullHeads
from headwise.observation import Observation
from headwise.preparation import parted, prepared
from headwise.read_only import read_only
from headwise.registry import Offered
from headwise.sums import DocumentSums, PartSums, ReadingSums
from headwise.tables import MEASUREMENTS, READINGS, STRETCHES
from headwise.tokens import Tokens

if TYPE_CHECKING:
    import pandas as pd

ALL_KEYS, WITHOUT_FIRST_KEY = READINGS
NO_NULLS = NullHeads()

Listener = Callable[[str, Block, torch.Tensor, torch.Tensor], None]
"""Told what an analyzer gave: its name, the block (own heads first), the values of the own heads, float64 (own heads,
queries), 0 in rows that do not count, and float64 (queries,), 1 in rows that count."""


@dataclass(slots=True)
class Measuring:
    """Runs analyzers over blocks; one that fails is left out from there on, and told in `failures`.

    With `strict` a failure is raised at once, as PluginError. `listeners` are told what each analyzer of rows gives for
    each block in the reading "all keys".
    """

    analyzers: list[Offered]
    pair_analyzers: list[Offered]
    strict: bool = False
    readings: tuple[str, ...] = (ALL_KEYS,)
    failures: list[Failure] = field(default_factory=list)
    listeners: list[Listener] = field(default_factory=list)

    @classmethod
    def of(cls, offered: Iterable[Offered], *, strict: bool = False, readings: tuple[str, ...] = (ALL_KEYS,)) -> Self:
        """Part the analyzers of rows from those of pairs."""
        every = list(offered)
        rows = [one for one in every if isinstance(one.value, Analyzer)]
        return cls(rows, [one for one in every if isinstance(one.value, PairAnalyzer)], strict, readings)

    def start(self, heads: int, nulls: NullHeads = NO_NULLS) -> DocumentSums:
        """Return the empty sums of a document, for so many own heads and the heads of the nulls."""
        count, pairs = len(self.analyzers), len(self.pair_analyzers)
        every = {
            ALL_KEYS: ReadingSums.empty(count, heads + nulls.count(heads) + 1, 0),
            WITHOUT_FIRST_KEY: ReadingSums.empty(count, heads + 1, heads),
        }
        return DocumentSums(
            heads,
            nulls,
            {reading: every[reading] for reading in self.readings},
            torch.zeros(pairs, heads, heads, dtype=torch.float64),
            torch.zeros(pairs, heads, heads, dtype=torch.float64),
        )

    def add(self, sums: DocumentSums, block: Block, stretch: torch.Tensor) -> None:
        """Add a block to the sums of its document.

        Args:
            sums: of the document.
            block: own heads, those of the nulls, the even head last.
            stretch: int64 (queries,), the number of the stretch that each row belongs to.
        """
        if not len(block.queries):
            return
        block = read_only(block)
        first, last = int(stretch.min()), int(stretch.max())
        member = torch.nn.functional.one_hot(stretch - first, last - first + 1).double()  # (queries, stretches here)
        sums.rows += len(block.queries)
        sums.stretches = max(sums.stretches, last + 1)
        here = slice(first, last + 1)
        for reading, kept in sums.readings.items():
            kept.make_room(last + 1)
            if reading == ALL_KEYS:
                self._add_all_keys(sums, kept, block, member, here)
            else:
                self._add_without_first_key(sums, kept, block, member, here)
        self._add_pairs(sums, block)

    def _add_all_keys(
        self, sums: DocumentSums, kept: ReadingSums, block: Block, member: torch.Tensor, here: slice
    ) -> None:
        for index, offered in enumerate(self.analyzers):
            given = self._row_values(offered, block, None)
            if given is None:
                continue
            values, counts = given
            kept.rows[index, here] += counts @ member  # (stretches here,)
            kept.sums[index, :, here] += values @ member  # (heads, stretches here)
            for listener in self.listeners:
                listener(offered.name, block, values[: sums.heads], counts)

    def _add_without_first_key(
        self, sums: DocumentSums, kept: ReadingSums, block: Block, member: torch.Tensor, here: slice
    ) -> None:
        rest, left_out = without_first_key(block, sums.heads)
        sees = rest.visible.any(-1)  # (queries,)
        left_out = left_out.cpu().double()  # (own heads, queries)
        for index, offered in enumerate(self.analyzers):
            given = self._row_values(offered, rest, sees)
            if given is None:
                continue
            values, counts = given
            kept.rows[index, here] += counts @ member  # (stretches here,)
            kept.sums[index, :, here] += values @ member  # (heads, stretches here)
            kept.left_out[index, :, here] += left_out * counts @ member  # (own heads, stretches here)

    def _add_pairs(self, sums: DocumentSums, block: Block) -> None:
        queries, names = len(block.queries), block.heads[: sums.heads]
        untrained = sums.nulls.of_untrained(sums.heads)
        places = [(slice(sums.heads), sums.pairs), (untrained, sums.untrained_pairs)]
        for place, kept in places if sums.nulls.untrained else places[:1]:
            heads = replace(block, weights=block.weights[place], heads=names)
            for index, offered in enumerate(self.pair_analyzers):
                kept[index] += queries * self._pair_values(offered, heads)

    def _failed(self, offered: Offered) -> bool:
        return any(failure.name == offered.name for failure in self.failures)

    def _row_values(
        self, offered: Offered, block: Block, sees: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return float64 (heads, queries), 0 in rows that do not count, and float64 (queries,), 1 in those that do.

        `sees`, bool (queries,), tells which rows may count; None: all. Of an analyzer that fails there is nothing.
        """
        analyzer = offered.value
        shape = len(block.heads), len(block.queries)
        if not isinstance(analyzer, Analyzer) or self._failed(offered):
            return None
        try:
            values = _checked(analyzer.run(block), shape, "(heads, queries)")
            rows = None if analyzer.rows is None else _checked_rows(analyzer.rows(block), shape[1])
            if sees is not None:
                rows = sees if rows is None else rows & sees
            values = values if rows is None else values.masked_fill(~rows, 0)
            _refuse_not_finite(values)
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            self.failures.append(Failure.caught(offered, error, strict=self.strict))
            return None
        counts = torch.ones(shape[1], dtype=torch.float64) if rows is None else rows.cpu().double()
        return values.cpu().double(), counts  # not every device has float64

    def _pair_values(self, offered: Offered, block: Block) -> torch.Tensor:
        analyzer = offered.value
        heads = len(block.heads)
        try:
            if isinstance(analyzer, PairAnalyzer) and not self._failed(offered):
                values = _checked(analyzer.run(block), (heads, heads), "(heads, heads)")
                _refuse_not_finite(values)
                return values.cpu().double()
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            self.failures.append(Failure.caught(offered, error, strict=self.strict))
        return torch.zeros(heads, heads, dtype=torch.float64)


def _checked(values: object, shape: tuple[int, ...], meaning: str) -> torch.Tensor:
    if not isinstance(values, torch.Tensor):
        message = f"it returned {type(values).__name__}; a tensor {meaning} is expected"
        raise PluginError(message)
    if tuple(values.shape) != shape:
        message = f"it returned the shape {tuple(values.shape)}; {meaning} is {shape} here"
        raise PluginError(message)
    return values


def _checked_rows(rows: object, queries: int) -> torch.Tensor:
    if not isinstance(rows, torch.Tensor) or rows.dtype != torch.bool or tuple(rows.shape) != (queries,):
        message = "its `rows` must return a bool tensor (queries,)"
        raise PluginError(message)
    return rows


def _refuse_not_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        message = "it returned NaN or infinity; leave out rows without an answer through `rows`"
        raise PluginError(message)


def measure_blocks(
    documents: Iterable[tuple[str, Iterable[Block]]], offered: Sequence[Offered], *, stretch_rows: int = 16
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure blocks with analyzers of rows, in the reading "all keys", against even attention.

    Args:
        documents: names of documents with their blocks, whose last head is the even one. The positions of their tokens
            are places in the document.
        offered: the analyzers; those of pairs are passed over.
        stretch_rows: rows of a stretch.

    Returns:
        Measurements and stretches, with the columns of `headwise.tables.MEASUREMENTS` and `STRETCHES`; those of the
        other nulls are null.

    Raises:
        PluginError: an analyzer failed.
    """
    measuring = Measuring.of((one for one in offered if isinstance(one.value, Analyzer)), strict=True)
    every: dict[str, DocumentSums] = {}
    heads: tuple[HeadName, ...] = ()
    for name, blocks in documents:
        for block in blocks:
            heads = block.heads[:-1]
            sums = every.setdefault(name, measuring.start(len(heads)))
            measuring.add(sums, block, block.tokens.positions[block.queries].cpu() // stretch_rows)
    rows = MeasuredRows(heads, tuple(one.name for one in measuring.analyzers))
    if not every:
        return MEASUREMENTS.empty_table().to_pandas(), STRETCHES.empty_table().to_pandas()
    part = PartSums.of(every)
    return rows.of_documents(part).to_pandas(), rows.of_stretches(part).to_pandas()


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

    offered, failures = _prepared_with([tokens] if isinstance(tokens, Tokens) else tokens)
    measuring = Measuring.of(offered)
    measuring.failures.extend(failures)
    windows = [measuring.start(len(seen.heads)) for _ in range(seen.windows)]
    for block in seen.blocks(tokens, even=True):
        measuring.add(windows[block.window], block, torch.zeros_like(block.queries).cpu())
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


def _prepared_with(windows: Sequence[Tokens] | None) -> tuple[list[Offered], list[Failure]]:
    """Return the installed analyzers of rows, prepared with these windows."""
    present, _ = parted([one for one in plugins.installed().offered("analyzer") if isinstance(one.value, Analyzer)])
    if windows is None:
        return [one for one in present if getattr(one.value, "prepare", None) is None], []
    return prepared(present, lambda: iter(windows), {})
