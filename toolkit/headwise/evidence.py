"""measurements -> evidence: how far each head is from chance, how sure that is, and the role that it earns.

Neighbouring rows of a text depend on each other, so what is resampled is never a row: it is documents, or, where there
are few of them, contiguous stretches of rows. A measurement over the corpus is a ratio, the sum over documents of value
x rows by the sum of rows; each resample draws as many documents as there are, with replacement, and takes the ratio
anew. As a product of matrices (resamples x documents) @ (documents x heads and analyzers) that takes seconds for a
large model and corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control

from headwise.contracts import RoleRules
from headwise.errors import PluginError
from headwise.tables import EVIDENCE

Floats = npt.NDArray[np.float64]

FEWEST_DOCUMENTS = 20
"""With fewer documents, stretches of rows are resampled."""
FEWEST_UNITS = 5
"""With fewer things to resample, no interval is given: it would look much surer than it is."""
RESOLUTION = 1e-6
"""Weights are float32, so a smaller excess (relative to chance, where that is over 1) is rounding and counts as 0."""
WORK = 2**24
"""Numbers held at once while resampling (128 MiB)."""

COLUMNS = ["layer", "head", "analyzer"]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over the rows of each unit (a document or a stretch), for each layer, head and analyzer."""

    names: pd.MultiIndex
    """(columns,): layer, head and analyzer, sorted."""
    value: Floats
    """(units, columns): value x rows."""
    chance: Floats
    """(units, columns): chance x rows."""
    excess: Floats
    """(units, columns): (value - chance) x rows, without what is rounding."""
    rows: Floats
    """(units, columns)."""


def weigh(
    measurements: pd.DataFrame,
    stretches: pd.DataFrame,
    *,
    seed: int,
    resamples: int,
    confidence: float,
    rules: RoleRules,
) -> pd.DataFrame:
    """Return the evidence: one row for each layer, head and analyzer, with the columns of `headwise.tables.EVIDENCE`.

    The interval is the percentile interval of the bootstrap, over documents where at least 20 of them have rows that
    count, else over stretches of rows; the column `method` names what was resampled. Where fewer than five stretches
    have such rows there is no interval: `low` and `high` are null and p is 1. p is two-sided, twice the smaller
    share of resamples on either side of chance, (k + 1) / (resamples + 1); q is Benjamini and Hochberg's, over all rows
    of the evidence. The same seed gives the same numbers, in whatever order the documents come. An analyzer of which
    no row counts for a head is left out.

    Args:
        measurements: columns of `headwise.tables.MEASUREMENTS`.
        stretches: columns of `headwise.tables.STRETCHES`, the same measurements by stretch.
        seed: seed of the resampling.
        resamples: how many resamples are drawn.
        confidence: of the interval, between 0 and 1.
        rules: gives the roles.

    Raises:
        PluginError: the rules raised, or did not give one role for each row.
    """
    documents = _sums(measurements, ["document"])
    rows = documents.rows.sum(0)  # (columns,)
    evidence = documents.names.to_frame(index=False)
    evidence["rows"] = rows.astype(np.int64)
    evidence["value"] = documents.value.sum(0) / rows
    evidence["chance"] = documents.chance.sum(0) / rows
    evidence["excess"] = documents.excess.sum(0) / rows

    parts = _sums(stretches, ["document", "stretch"])
    counting = (documents.rows > 0).sum(0)  # (columns,)
    unparted = ~documents.names.isin(parts.names)  # no stretches were kept, so documents have to do
    enough = (counting >= FEWEST_DOCUMENTS) | (unparted & (counting >= FEWEST_UNITS))
    draw = _Draw(seed, resamples, confidence)
    by_document = draw.intervals(documents, evidence[enough], "documents")
    by_stretch = draw.intervals(parts, evidence[~enough], "stretches of rows")
    evidence = evidence.join(pd.concat([by_document, by_stretch]))

    evidence["q"] = false_discovery_control(evidence["p"]) if len(evidence) else evidence["p"]
    evidence["role"] = ""
    evidence = evidence.reindex(columns=EVIDENCE.names)
    evidence["role"] = _roles(evidence, rules)
    return evidence


def _sums(frame: pd.DataFrame, unit: list[str]) -> _Sums:
    """Sum up by unit; the order of units and columns does not depend on the order of the frame."""
    counted = frame[frame["rows"] > 0]
    units = counted.groupby(unit, sort=True).ngroup().to_numpy()  # (rows of the frame,)
    columns = counted.groupby(COLUMNS, sort=True)
    names = pd.MultiIndex.from_frame(counted[COLUMNS].drop_duplicates().sort_values(COLUMNS))
    shape = (units.max(initial=-1) + 1, len(names))
    places = units * shape[1] + columns.ngroup().to_numpy()

    rows = counted["rows"].to_numpy(np.float64)
    value, chance = counted["value"].to_numpy(np.float64), counted["chance"].to_numpy(np.float64)
    excess = value - chance
    excess[np.abs(excess) <= RESOLUTION * np.maximum(1, np.abs(chance))] = 0

    def table(sums: Floats) -> Floats:
        return np.bincount(places, weights=sums, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)

    return _Sums(names, table(value * rows), table(chance * rows), table(excess * rows), table(rows))


@dataclass(frozen=True, slots=True)
class _Draw:
    """How resamples are drawn."""

    seed: int
    resamples: int
    confidence: float

    def intervals(self, sums: _Sums, wanted: pd.DataFrame, units: str) -> pd.DataFrame:
        """Return low, high, p and method of the wanted rows; those that count in the same units share resamples."""
        result = pd.DataFrame(
            {"low": np.nan, "high": np.nan, "p": 1.0, "method": f"no interval: too few {units}"}, index=wanted.index
        )
        places = sums.names.get_indexer(pd.MultiIndex.from_frame(wanted[COLUMNS]))  # -1: there are no such sums
        found = (places >= 0).nonzero()[0]
        present = sums.rows[:, places[found]] > 0  # (units, wanted rows that are found)
        patterns, group = np.unique(present, axis=1, return_inverse=True)
        for number, pattern in enumerate(patterns.T):
            count = int(pattern.sum())
            if count < FEWEST_UNITS:
                continue
            chosen = found[group.ravel() == number]
            taken = np.ix_(pattern, places[chosen])
            low, high, p = self._bootstrap(sums.excess[taken], sums.rows[taken])
            result.iloc[chosen, :3] = np.stack([low, high, p], axis=1)
            result.iloc[chosen, 3] = f"bootstrap over {count:,} {units}"
        return result

    def _bootstrap(self, excess: Floats, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the interval's ends and the p-value of each column; (units, columns) -> three times (columns,)."""
        width = max(1, WORK // self.resamples)
        ends: list[list[Floats]] = []
        tail = (1 - self.confidence) / 2
        for first in range(0, excess.shape[1], width):
            part = slice(first, first + width)
            ratios = self._ratios(excess[:, part], rows[:, part])  # (resamples, columns of the part)
            low, high = np.quantile(ratios, [tail, 1 - tail], axis=0)
            fewer = np.minimum((ratios <= 0).sum(0), (ratios >= 0).sum(0))
            ends.append([low, high, np.minimum(1, 2 * (fewer + 1) / (self.resamples + 1))])
        low, high, p = (np.concatenate(column) for column in zip(*ends, strict=True))
        return low, high, p

    def _ratios(self, excess: Floats, rows: Floats) -> Floats:
        """Return the excess of each resample; (units, columns) -> (resamples, columns)."""
        units = len(rows)
        generator = np.random.default_rng(self.seed)
        each = np.full(units, 1 / units)
        ratios = np.empty((self.resamples, rows.shape[1]))
        step = max(1, WORK // units)
        for first in range(0, self.resamples, step):
            part = slice(first, min(first + step, self.resamples))
            times = generator.multinomial(units, each, size=part.stop - first).astype(np.float64)  # (part, units)
            ratios[part] = (times @ excess) / (times @ rows)
        return ratios


def _roles(evidence: pd.DataFrame, rules: RoleRules) -> list[str]:
    """Ask the rules for one role for each row."""
    try:
        roles: list[Any] = list(rules.assign(evidence.copy()))
    except Exception as error:
        message = f"the rule set '{rules.name}' failed: {type(error).__name__}: {error}"
        raise PluginError(message) from error
    if len(roles) != len(evidence) or not all(isinstance(role, str) for role in roles):
        message = (
            f"the rule set '{rules.name}' gave {len(roles)} roles for {len(evidence)} rows of evidence; "
            "they must give one text for each row, '' where no role is earned"
        )
        raise PluginError(message)
    return roles
