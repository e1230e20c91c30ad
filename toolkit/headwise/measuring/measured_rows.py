"""sums -> rows of the tables: measurements, stretches and pairs, of many documents at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headwise.measuring.nulls import NullHeads
from headwise.measuring.sums import PartSums, ReadingSums
from headwise.observing.block import HeadName
from headwise.tables import MEASUREMENTS, PAIRS, STRETCHES

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
NO_NULLS = NullHeads()
MEANS = ("value", "chance", "by_distance", "fixed_distance", "untrained", "left_out")
"""The columns that are means over rows; null where no row counts, or the null was not taken."""


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """Turns sums into rows of the tables; analyzers that failed get none."""

    heads: Sequence[HeadName]
    analyzers: Sequence[str]
    """The analyzers of rows, in the order of the sums."""
    pair_analyzers: Sequence[str] = ()
    nulls: NullHeads = NO_NULLS
    fixed: Mapping[str, int] = field(default_factory=dict)
    """Analyzer -> which of the fixed distances gives most; needed where there are fixed distances."""
    failed: frozenset[str] = frozenset()

    def of_documents(self, part: PartSums) -> pa.Table:
        """Return the rows of measurements.parquet: by document, reading, analyzer and head."""
        documents = np.arange(len(part.documents))
        return self._table(part.by_document(), {"document": _texts(part.documents, documents)}, MEASUREMENTS)

    def of_stretches(self, part: PartSums) -> pa.Table:
        """Return the rows of stretches.parquet: by document, stretch, reading, analyzer and head."""
        counts = part.stretches.numpy()
        documents = np.repeat(np.arange(len(counts)), counts)  # (stretches,)
        stretch = pa.array(np.arange(len(documents)) - np.repeat(counts.cumsum() - counts, counts))
        return self._table(part.readings, {"document": _texts(part.documents, documents), "stretch": stretch},
                           STRETCHES)  # fmt: skip

    def of_pairs(self, part: PartSums) -> pa.Table:
        """Return the rows of pairs.parquet: by document, pair analyzer and pair of heads."""
        kept = [index for index, name in enumerate(self.pair_analyzers) if name not in self.failed]
        first, second = np.triu_indices(len(self.heads), k=1)  # (pairs,)
        rows = part.pair_rows.numpy()[:, kept]  # (documents, pair analyzers)
        shape = *rows.shape, len(first)
        per_row = np.maximum(rows, 1)[..., None]
        value, untrained = (
            sums.numpy()[:, kept][:, :, first, second] / per_row for sums in (part.pairs, part.untrained_pairs)
        )  # (documents, pair analyzers, pairs)
        present = np.broadcast_to(rows[..., None] > 0, shape)
        document, analyzer, pair = present.nonzero()
        if not self.nulls.untrained:
            untrained = np.full(shape, np.nan)
        layer, head = np.array(self.heads).reshape(-1, 2).T
        columns = {
            "document": _texts(part.documents, document),
            "layer_a": layer[first][pair],
            "head_a": head[first][pair],
            "layer_b": layer[second][pair],
            "head_b": head[second][pair],
            "analyzer": _texts([self.pair_analyzers[index] for index in kept], analyzer),
            "rows": rows[document, analyzer],
            "value": value[present],
            "untrained": pa.array(untrained[present], from_pandas=True),
        }
        return pa.table(columns).cast(PAIRS)

    def _table(self, readings: Mapping[str, ReadingSums], units: Mapping[str, pa.Array], schema: pa.Schema) -> pa.Table:
        """Return the rows of each unit (a document or a stretch), of which `units` holds columns, (units,)."""
        kept = [index for index, name in enumerate(self.analyzers) if name not in self.failed]
        parts = [self._means(sums, kept) for sums in readings.values()]  # each (units, analyzers, heads)
        means = {name: np.stack([part[name] for part in parts], axis=1) for name in (*MEANS, "rows")}
        unit, reading, analyzer, place = (index.ravel() for index in np.indices(means["rows"].shape))
        layer, head = np.array(self.heads).reshape(-1, 2).T
        columns: dict[str, Any] = {name: column.take(pa.array(unit)) for name, column in units.items()}
        columns |= {
            "layer": layer[place],
            "head": head[place],
            "reading": _texts(list(readings), reading),
            "analyzer": _texts([self.analyzers[index] for index in kept], analyzer),
            "rows": means["rows"].ravel().astype(np.int64),
        }
        columns |= {name: pa.array(means[name].ravel(), from_pandas=True) for name in MEANS}  # NaN becomes null
        return pa.table(columns).select(schema.names).cast(schema)

    def _means(self, sums: ReadingSums, kept: list[int]) -> dict[str, Floats]:
        """Return the numbers of one reading by column, float64 (units, analyzers, heads); NaN where there is none."""
        own = len(self.heads)
        rows = sums.rows.numpy()[kept]  # (analyzers, units)
        per_row = np.where(rows > 0, rows, np.nan)[:, None]  # (analyzers, 1, units)
        means = sums.sums.numpy()[kept] / per_row  # (analyzers, heads, units)
        nulls = self.nulls if means.shape[1] > own + 1 else NO_NULLS  # the other reading has the even head alone
        left_out = sums.left_out.numpy()[kept] / per_row  # (analyzers, own heads or none, units)
        fixed = means[:, nulls.at_offsets(own)]  # (analyzers, offsets, units)
        best = np.array([self.fixed[self.analyzers[index]] for index in kept] if nulls.offsets else [], dtype=np.int64)
        taken = {
            "value": means[:, :own],
            "chance": means[:, -1:],
            "by_distance": means[:, nulls.by_distance(own)],
            "fixed_distance": np.take_along_axis(fixed, best[:, None, None], axis=1) if nulls.offsets else fixed,
            "untrained": means[:, nulls.of_untrained(own)],
            "left_out": left_out if left_out.shape[1] else 0 * means[:, -1:],
            "rows": rows[:, None],
        }
        shape = len(kept), own, rows.shape[1]
        return {name: _spread(part, shape).transpose(2, 0, 1) for name, part in taken.items()}


def _spread(part: Floats, shape: tuple[int, int, int]) -> Floats:
    """Give numbers that are the same for every head to each; NaN where there are none."""
    return np.broadcast_to(part if part.shape[1] else np.float64(np.nan), shape)


def _texts(texts: Sequence[str], places: Places) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(places))
