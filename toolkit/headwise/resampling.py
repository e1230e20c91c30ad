"""Intervals and p-values of a ratio of sums, by a studentised bootstrap over documents or moving blocks of stretches.

Neighbouring rows of a text depend on each other, so what is resampled is never a row. With n independent documents, n
of them are drawn with replacement. Contiguous stretches of rows depend on their neighbours: they are drawn in blocks of
round(n^(1/3)) consecutive ones, at any place of the documents' sequence, which is closed to a circle (Politis and
Romano 1992). A block is then drawn as a document is, so one computation serves both.

The estimate is R = sum(excess) / sum(rows). Its standard error is the linearised one of a ratio, from the residuals
u = excess - R x rows; so is that of each resample, and the interval is made of the quantiles of

    T* = (R* - R) / standard error of R*

(the bootstrap-t: Efron and Tibshirani 1993, chapter 12; Goetze and Kuensch 1996 for blocks). A percentile interval
is too narrow with few units; this one is not. Everything is a product of matrices, (resamples x units) @ (units x
columns), of u, u^2 and u x rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST_DRAWN = 5
"""With fewer documents or blocks to draw, no interval is given: it would tell nothing."""
ROUNDING = 1e-6
"""Weights are float32, so a smaller standard error, relative to the estimate, is rounding."""
WORK = 2**22
"""Numbers of one array held at once while resampling (32 MiB)."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """What the resampling gives for each column."""

    low: Floats
    """(columns,): lower end of the interval; NaN where too little can be drawn."""
    high: Floats
    """(columns,): upper end."""
    p: Floats
    """(columns,): two-sided, of the hypothesis that the estimate is 0; 1 where too little can be drawn."""
    method: tuple[str, ...]
    """(columns,): what was resampled, in words."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How resamples are drawn; the same seed gives the same bits.

    >>> import numpy as np
    >>> excess = np.array([[3.0], [5.0], [4.0], [6.0], [2.0], [4.0]])  # six documents, one column
    >>> found = Resampling(seed=0, resamples=999, confidence=0.95).intervals(excess, np.full((6, 1), 10.0))
    >>> bool(0 < found.low[0] < 0.4 < found.high[0]), found.method
    (True, ('studentised bootstrap over 6 documents',))
    """

    seed: int
    resamples: int
    confidence: float

    def intervals(self, excess: Floats, rows: Floats, sequence: Integers | None = None) -> Intervals:
        """Return interval and p-value of `excess.sum(0) / rows.sum(0)` for each column.

        Units without rows in a column are not drawn for it. p is twice the smaller share of resamples whose T* lies
        beyond that of the hypothesis, (k + 1) / (resamples + 1); where none does, the tail goes on beyond the farthest
        resample as Student's t falls, since corrected for thousands of heads and analyzers no p-value of the size of
        1 / resamples could ever count.

        Args:
            excess: float64 (units, columns), sums over the rows of each unit.
            rows: float64 (units, columns), how many rows those are.
            sequence: int64 (units,), the number of the document that each unit, a stretch of rows, belongs to; the
                stretches of a document stand in their order. None: units are independent documents.
        """
        columns = excess.shape[1]
        low, high, p = np.full(columns, np.nan), np.full(columns, np.nan), np.ones(columns)
        units = "documents" if sequence is None else "stretches of rows"
        method = [f"no interval: too few {units}"] * columns
        if sequence is not None:
            order = np.argsort(sequence, kind="stable")
            excess, rows = excess[order], rows[order]
        different, group = np.unique(rows, axis=1, return_inverse=True)  # columns of like rows share their resamples
        for number, every in enumerate(different.T):
            count = int((every > 0).sum())
            length = 1 if sequence is None else block_length(count)
            if count < FEWEST_DRAWN * length:
                continue
            chosen = (group.ravel() == number).nonzero()[0]
            blocks = "" if sequence is None else f" in moving blocks of {length}"
            found = self._studentised(excess[np.ix_(every > 0, chosen)], every[every > 0], length)
            for place, ends in zip(chosen, found.T, strict=True):
                if np.isfinite(ends).all():
                    low[place], high[place], p[place] = ends
                    method[place] = f"studentised bootstrap over {count:,} {units}{blocks}"
        return Intervals(low, high, p, tuple(method))

    def _studentised(self, excess: Floats, rows: Floats, length: int) -> Floats:
        """Return low, high and p of each column; excess (units, columns), rows (units,) -> (3, columns)."""
        estimate = excess.sum(0) / rows.sum()  # (columns,)
        residual = _in_blocks(excess - estimate * rows[:, None], length)  # (units, columns)
        rows = _in_blocks(rows[:, None], length)[:, 0]  # (units,)
        width = max(1, WORK // max(self.resamples, len(rows)))
        found = [
            self._interval(estimate[first : first + width], residual[:, first : first + width], rows, length)
            for first in range(0, excess.shape[1], width)
        ]
        return np.concatenate(found, axis=1)

    def _interval(self, estimate: Floats, residual: Floats, rows: Floats, length: int) -> Floats:
        """Return low, high and p; estimate (columns,), residuals (blocks, columns), rows (blocks,) -> (3, columns)."""
        drawn = round(len(rows) / length)
        unbiased = drawn / (drawn - 1)
        error = np.sqrt(unbiased * np.square(residual).mean(0) / drawn) / rows.mean()  # (columns,)
        error = np.maximum(error, ROUNDING * np.abs(estimate))
        statistics = np.sort(self._statistics(residual, rows, drawn), axis=0) / np.sqrt(unbiased)

        beyond = max(1, int((self.resamples + 1) * (1 - self.confidence) / 2))  # resamples beyond each end
        low = np.minimum(estimate, estimate - statistics[-beyond] * error)
        high = np.maximum(estimate, estimate - statistics[beyond - 1] * error)

        own = np.divide(estimate, error, out=np.zeros_like(estimate), where=error > 0)  # T of the hypothesis
        above, below = (statistics >= own).sum(0), (statistics <= own).sum(0)
        p = np.minimum(1, 2 * (np.minimum(above, below) + 1) / (self.resamples + 1))
        farthest = np.where(own > 0, statistics[-1], -statistics[0])
        alone = (np.minimum(above, below) == 0) & (farthest > 0)
        tail = student(drawn - 1).sf
        p[alone] *= np.minimum(1, tail(np.abs(own[alone])) / tail(farthest[alone]))
        return np.stack([low, high, p])

    def _statistics(self, residual: Floats, rows: Floats, drawn: int) -> Floats:
        """Return T* of each resample; (blocks, columns) and (blocks,) -> (resamples, columns)."""
        blocks, columns = residual.shape
        generator = np.random.default_rng(self.seed)
        statistics = np.empty((self.resamples, columns))
        step = max(1, WORK // blocks)
        for first in range(0, self.resamples, step):
            part = statistics[first : first + step]
            times = _times_drawn(generator, len(part), blocks, drawn)  # (part, blocks)
            total = times @ residual  # (part, columns)
            shift = total / (times @ rows)[:, None]  # R* - R
            spread = times @ np.square(residual) - 2 * shift * (times @ (residual * rows[:, None]))
            spread += np.square(shift) * (times @ np.square(rows))[:, None]
            with np.errstate(divide="ignore", invalid="ignore"):  # a resample of one block drawn again and again
                np.divide(total, np.sqrt(np.maximum(spread, 0)), out=part)
            part[total == 0] = 0
        return statistics


def block_length(stretches: int) -> int:
    """Return how many consecutive stretches are drawn together: the cube root of their number, rounded.

    >>> [block_length(number) for number in (5, 20, 60, 200)]
    [2, 3, 4, 6]
    """
    return round(float(np.cbrt(stretches)))


def _in_blocks(values: Floats, length: int) -> Floats:
    """Return the sums over `length` consecutive units from each unit on, in a circle; (units, columns) -> the same."""
    if length == 1:
        return values
    around = np.concatenate([np.zeros_like(values[:1]), values, values[: length - 1]]).cumsum(0)
    sums: Floats = around[length:] - around[:-length]
    return sums


def _times_drawn(generator: np.random.Generator, resamples: int, blocks: int, drawn: int) -> Floats:
    """Draw blocks with replacement; return how often each is drawn, (resamples, blocks)."""
    places = generator.integers(blocks, size=(resamples, drawn)) + blocks * np.arange(resamples)[:, None]
    times = np.bincount(places.ravel(), minlength=resamples * blocks)
    return times.reshape(resamples, blocks).astype(np.float64)
