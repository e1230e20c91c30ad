"""blocks -> analyzers: runs every analyzer over every block, and keeps sums alone.

Each head's number depends on that head's rows alone, so further heads are appended to every block: even attention,
always the last, is what gives chance, and `headwise.measuring.nulls` tells of the others. Memory does not grow with the
corpus: sums are kept by document, stretch of rows, head and analyzer, in float64, so that no result depends on the size
of the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Self, TypeVar

import torch

from headwise.contracts import Analyzer, PairAnalyzer
from headwise.errors import PluginError
from headwise.failure import Failure
from headwise.measuring.first_key import without_first_key
from headwise.measuring.measured_rows import MeasuredRows
from headwise.measuring.nulls import NullHeads
from headwise.measuring.sums import DocumentSums, PartSums, ReadingSums
from headwise.observing.block import Block, HeadName
from headwise.registry import Offered
from headwise.tables import MEASUREMENTS, READINGS, STRETCHES
from headwise.text.tokens import Tokens

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
ALL_KEYS, WITHOUT_FIRST_KEY = READINGS
NO_NULLS = NullHeads()

Listener = Callable[[str, Block, torch.Tensor, torch.Tensor], None]
"""Told what an analyzer gave: its name, the block (own heads first), the values of the own heads, float64 (own heads,
queries), 0 in rows that do not count, and float64 (queries,), 1 in rows that count."""
TENSORS = tuple(part.name for part in fields(Tokens) if part.name != "texts")
"""The tensors of tokens."""


class SpoiltBlockError(PluginError):
    """An analyzer changed the block that others read after it."""


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

    def whole(self, measure: Callable[[], T]) -> T:
        """Return what `measure` gives, done anew each time an analyzer spoils a block and is left out."""
        while True:
            try:
                return measure()
            except SpoiltBlockError:  # `measure` adds to sums of its own, so those are gone with it
                continue

    def add(self, sums: DocumentSums, block: Block, stretch: torch.Tensor) -> None:
        """Add a block to the sums of its document.

        Args:
            sums: of the document.
            block: own heads, those of the nulls, the even head last.
            stretch: int64 (queries,), the number of the stretch that each row belongs to.

        Raises:
            SpoiltBlockError: an analyzer changed the block. It is left out from there on, and its document has to be
                measured anew.
            PluginError: an analyzer failed, with `strict`.
        """
        if not len(block.queries):
            return
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
        version = _version(block)
        try:
            values = _checked(analyzer.run(block), shape, "(heads, queries)")
            rows = None if analyzer.rows is None else _checked_rows(analyzer.rows(block), shape[1])
            if sees is not None:
                rows = sees if rows is None else rows & sees
            values = values if rows is None else values.masked_fill(~rows, 0)
            _refuse_not_finite(values)
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            values, rows = None, None
            self._fail(offered, error)
        self._refuse_spoilt(offered, block, version)
        if values is None:
            return None
        counts = torch.ones(shape[1], dtype=torch.float64) if rows is None else rows.cpu().double()
        return values.cpu().double(), counts  # not every device has float64

    def _pair_values(self, offered: Offered, block: Block) -> torch.Tensor:
        analyzer = offered.value
        heads = len(block.heads)
        values = torch.zeros(heads, heads)
        if not isinstance(analyzer, PairAnalyzer) or self._failed(offered):
            return values.double()
        version = _version(block)
        try:
            given = _checked(analyzer.run(block), (heads, heads), "(heads, heads)")
            _refuse_not_finite(given)
            values = given
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            self._fail(offered, error)
        self._refuse_spoilt(offered, block, version)
        return values.cpu().double()

    def _refuse_spoilt(self, offered: Offered, block: Block, version: int) -> None:
        if _version(block) != version:
            error = SpoiltBlockError("it changed the block, which others read too; it must copy what it changes")
            self._fail(offered, error)
            raise error

    def _fail(self, offered: Offered, error: Exception) -> None:
        if not self._failed(offered):
            self.failures.append(Failure.caught(offered, error, strict=self.strict))


def _version(block: Block) -> int:
    """Return torch's counts of changes in place, which views share; torch keeps them under a private name."""
    tensors = [block.weights, block.visible, block.queries]
    tensors += [getattr(tokens, name) for tokens in (block.tokens, block.window_tokens) for name in TENSORS]
    return sum(tensor._version for tensor in tensors)  # noqa: SLF001


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
            measuring.add(sums, block, block.query_positions.cpu() // stretch_rows)
    rows = MeasuredRows(heads, tuple(one.name for one in measuring.analyzers))
    if not every:
        return MEASUREMENTS.empty_table().to_pandas(), STRETCHES.empty_table().to_pandas()
    part = PartSums.of(every)
    return rows.of_documents(part).to_pandas(), rows.of_stretches(part).to_pandas()
