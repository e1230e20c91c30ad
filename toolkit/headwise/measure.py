"""blocks -> analyzers: runs every analyzer over every block, and keeps sums alone.

Each head's number depends on that head's rows alone, so one more head is appended to every block, even attention, and
what an analyzer gives for it is its chance value. Memory does not grow with the corpus: sums are kept by document,
stretch of rows, head and analyzer, in float64, so that no result depends on the size of the blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import torch

from headwise import registry as plugins
from headwise.block import Block
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.errors import PluginError
from headwise.observation import Observation
from headwise.registry import Offered
from headwise.tokens import Tokens

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Failure:
    """A plugin's object that broke its promise and was left out."""

    what: str
    name: str
    plugin: str
    distribution: str
    message: str

    @property
    def sentence(self) -> str:
        """What failed, where it comes from and why."""
        return f"the {self.what} '{self.name}' from {self.distribution} is left out: {self.message}"

    @classmethod
    def of(cls, offered: Offered, message: str) -> Failure:
        """Make the failure of something that a plugin offered."""
        return cls(offered.kind, offered.name, offered.plugin, offered.distribution, message)


@dataclass(slots=True)
class DocumentSums:
    """What is kept of one document."""

    rows: torch.Tensor
    """float64 (analyzers, stretches): rows that count."""
    sums: torch.Tensor
    """float64 (analyzers, heads + 1, stretches); the last head is the even one."""
    pair_rows: int
    pairs: torch.Tensor
    """float64 (pair analyzers, heads, heads): sums over rows."""


@dataclass(slots=True)
class Measuring:
    """Runs analyzers over blocks; one that fails is left out from there on, and told in `failures`.

    With `strict` a failure is raised at once, as PluginError.
    """

    analyzers: list[Offered]
    pair_analyzers: list[Offered]
    strict: bool = False
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, offered: Iterable[Offered], *, strict: bool = False) -> Measuring:
        """Part the analyzers of rows from those of pairs."""
        every = list(offered)
        rows = [one for one in every if isinstance(one.value, Analyzer)]
        return cls(rows, [one for one in every if isinstance(one.value, PairAnalyzer)], strict)

    def start(self, heads: int, stretches: int) -> DocumentSums:
        """Return the empty sums of a document."""
        count, pairs = len(self.analyzers), len(self.pair_analyzers)
        return DocumentSums(
            torch.zeros(count, stretches, dtype=torch.float64),
            torch.zeros(count, heads + 1, stretches, dtype=torch.float64),
            0,
            torch.zeros(pairs, heads, heads, dtype=torch.float64),
        )

    def add(self, sums: DocumentSums, block: Block, stretch: torch.Tensor) -> None:
        """Add a block, whose last head is the even one, to the sums of its document.

        `stretch`, int64 (queries,), is the number of the stretch that each row belongs to.
        """
        heads, queries = block.weights.shape[0], len(block.queries)
        if not queries:
            return
        pristine = [tensor.clone() for tensor in _tensors(block)]  # the way back if an analyzer spoils the block
        version = _version(block)
        member = torch.nn.functional.one_hot(stretch, sums.rows.shape[-1]).double()  # (queries, stretches)
        for index, offered in enumerate(self.analyzers):
            if self._failed(offered):
                continue
            values, counts = self._row_values(offered, block, (heads, queries))
            if self._spoilt(offered, block, version):
                version = _restored(block, pristine)
                continue
            sums.rows[index] += counts @ member  # (stretches,)
            sums.sums[index] += values @ member  # (heads, stretches)
        own = replace(block, weights=block.weights[:-1], heads=block.heads[:-1])
        for index, offered in enumerate(self.pair_analyzers):
            if self._failed(offered):
                continue
            values = self._pair_values(offered, own)
            if self._spoilt(offered, block, version):
                version = _restored(block, pristine)
                continue
            sums.pairs[index] += queries * values
        sums.pair_rows += queries

    def _failed(self, offered: Offered) -> bool:
        return any(failure.name == offered.name for failure in self.failures)

    def _row_values(self, offered: Offered, block: Block, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float64 (heads, queries), 0 in rows that do not count, and float64 (queries,), 1 in those that do."""
        analyzer = offered.value
        nothing = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[1], dtype=torch.float64)
        if not isinstance(analyzer, Analyzer):
            return nothing
        try:
            values = _checked(analyzer.run(block), shape, "(heads, queries)")
            rows = None if analyzer.rows is None else _checked_rows(analyzer.rows(block), shape[1])
            values = values if rows is None else values.masked_fill(~rows, 0)
            _refuse_not_finite(values)
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            self._fail(offered, error)
            values, rows = nothing
        counts = torch.ones(shape[1], dtype=torch.float64) if rows is None else rows.cpu().double()
        return values.cpu().double(), counts  # not every device has float64

    def _spoilt(self, offered: Offered, block: Block, version: int) -> bool:
        """Tell whether an analyzer changed the block in place, and if so leave the analyzer out."""
        if _version(block) == version:
            return False
        self._fail(offered, PluginError("it changed the block, which others read too; it must copy what it changes"))
        return True

    def _pair_values(self, offered: Offered, block: Block) -> torch.Tensor:
        analyzer = offered.value
        heads = len(block.heads)
        try:
            if isinstance(analyzer, PairAnalyzer):
                values = _checked(analyzer.run(block), (heads, heads), "(heads, heads)")
                _refuse_not_finite(values)
                return values.cpu().double()
        except Exception as error:  # noqa: BLE001  # a stranger's analyzer may raise anything
            self._fail(offered, error)
        return torch.zeros(heads, heads, dtype=torch.float64)

    def _fail(self, offered: Offered, error: Exception) -> None:
        told = str(error) if isinstance(error, PluginError) else f"it raised {type(error).__name__}: {error}"
        if self.strict:
            message = f"the {offered.kind} '{offered.name}' ({offered.origin}) failed: {told}"
            raise PluginError(message) from error
        self.failures.append(Failure.of(offered, told))


def _tensors(block: Block) -> list[torch.Tensor]:
    """Return everything in a block that could be changed in place."""
    tokens = [getattr(block.tokens, part.name) for part in fields(block.tokens) if part.name != "texts"]
    return [block.weights, block.visible, block.queries, *tokens]


def _version(block: Block) -> int:
    """Return torch's counts of changes in place, which views share; torch keeps them under a private name."""
    return sum(tensor._version for tensor in _tensors(block))  # noqa: SLF001


def _restored(block: Block, pristine: Sequence[torch.Tensor]) -> int:
    """Put a spoilt block back as it was, and return its version."""
    for tensor, before in zip(_tensors(block), pristine, strict=True):
        tensor.copy_(before)
    return _version(block)


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


class ProfileSums:
    """Sums of weights by distance, for every head and the even one, over everything that is added."""

    def __init__(self, heads: int, reach: int) -> None:
        self.reach = reach
        """The largest distance, to either side."""
        self.sums = torch.zeros(heads + 1, 2 * reach + 1, dtype=torch.float64)
        """(heads + 1, distances): distance = query - key, from -reach to reach."""
        self.rows = 0

    def add(self, block: Block) -> None:
        """Add a block of consecutive query rows whose last head is the even one."""
        heads, queries, keys = block.weights.shape
        if not queries:
            return
        # Rows are shifted against each other by padding and cutting anew, so that a diagonal becomes a column.
        padded = torch.nn.functional.pad(block.weights, (0, queries))  # (heads, queries, keys + queries)
        skewed = padded.flip(1).flatten(1)[:, : queries * (keys + queries - 1)]
        columns = skewed.view(heads, queries, keys + queries - 1).sum(1).cpu().double()  # (heads, columns)
        # column c holds key - (query - first query) + queries - 1; distance falls as c grows
        first = self.reach + int(block.queries[0]) + queries - 1
        self.sums[:, first - (keys + queries - 2) : first + 1] += columns.flip(1)
        self.rows += queries


def analyze(seen: Observation, tokens: Tokens | Sequence[Tokens] | None = None) -> pd.DataFrame:
    """Measure an observation with every installed analyzer.

    Returns one row for each window, layer, head and analyzer: window, layer, head, analyzer, rows, value, chance.
    `tokens` are the tokens of each window; without them only analyzers of positions tell something.
    A plugin that fails is left out with a `headwise.registry.PluginWarning`.

    Raises:
        ObservationError: nothing was seen, or the tokens do not fit the windows.
    """
    import pandas as pd

    offered = [one for one in plugins.installed().offered("analyzer") if isinstance(one.value, Analyzer)]
    measuring = Measuring.of(offered)
    windows = [measuring.start(len(seen.heads), 1) for _ in range(seen.windows)]
    for block in seen.blocks(tokens, even=True):
        measuring.add(windows[block.window], block, torch.zeros_like(block.queries).cpu())
    for failure in measuring.failures:
        warnings.warn(failure.sentence, plugins.PluginWarning, stacklevel=2)
    failed = {failure.name for failure in measuring.failures}
    return pd.DataFrame(
        {"window": number, "layer": name.layer, "head": name.head, "analyzer": one.name, "rows": int(rows),
         "value": sums.sums[index, head].sum().item() / rows if rows else math.nan,
         "chance": sums.sums[index, -1].sum().item() / rows if rows else math.nan}
        for number, sums in enumerate(windows)
        for index, one in enumerate(offered)
        if one.name not in failed
        for rows in [sums.rows[index].sum().item()]
        for head, name in enumerate(seen.heads)
    )  # fmt: skip
