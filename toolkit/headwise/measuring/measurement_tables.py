"""Merges the sums of all chunks into the tables of a run, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from headwise.measuring.measured_rows import MeasuredRows
from headwise.measuring.profile import ProfileSums
from headwise.measuring.sums import PartSums
from headwise.observing.block import HeadName
from headwise.run_folder import RunFolder
from headwise.tables import FILES, PROFILES, READINGS

ROWS_AT_ONCE = 2**18
"""Rows that are gathered before they are written, at least."""


@dataclass(frozen=True, slots=True)
class GroupSums:
    """What was measured of the heads that see the same keys."""

    files: Sequence[Path]
    """The sums of the chunks, in their order."""
    rows: MeasuredRows
    profile: ProfileSums | None
    """Of all chunks; None: there are no distances."""


def merged(stage: RunFolder, groups: Sequence[GroupSums], *, by_stretches: bool) -> list[str]:
    """Merge the sums of all chunks, in their order, and write measurements, stretches, pairs and profiles.

    The fixed distance that gives most is chosen here, over all chunks, for each group and analyzer. Without
    `by_stretches` the table of stretches stays empty. Returns the names of the files.
    """
    names = ["measurements.parquet", "pairs.parquet", *(["stretches.parquet"] if by_stretches else [])]
    if not by_stretches:
        stage.write_table("stretches.parquet", FILES["stretches.parquet"].empty_table())
    with ExitStack() as stack:
        writers = {name: stack.enter_context(_writing(stage, name)) for name in names}
        for group in groups:
            rows = replace(group.rows, fixed=best_fixed(map(PartSums.load, group.files), group.rows))
            tables: dict[str, Callable[[PartSums], pa.Table]] = {
                "measurements.parquet": rows.of_documents,
                "pairs.parquet": rows.of_pairs,
                "stretches.parquet": rows.of_stretches,
            }
            for path in group.files:
                part = PartSums.load(path)
                for name in names:
                    writers[name](tables[name](part))
    profiles = [profile_table(one.profile, one.rows.heads) for one in groups if one.profile is not None]
    stage.write_table("profiles.parquet", pa.concat_tables([FILES["profiles.parquet"].empty_table(), *profiles]))
    return ["measurements.parquet", "stretches.parquet", "pairs.parquet", "profiles.parquet"]


@contextmanager
def _writing(stage: RunFolder, name: str) -> Iterator[Callable[[pa.Table], None]]:
    """Give a function that adds rows to a table of the run; they are written many at a time."""
    waiting: list[pa.Table] = []
    schema = FILES[name]
    repeated = [part.name for part in schema if part.type != pa.float64()]  # a dictionary of numbers would only grow
    with (
        stage.writing(name) as path,
        pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated) as writer,
    ):

        def write() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()

        def add(table: pa.Table) -> None:
            waiting.append(table)
            if sum(part.num_rows for part in waiting) >= ROWS_AT_ONCE:
                write()

        yield add
        write()


def best_fixed(parts: Iterable[PartSums], rows: MeasuredRows) -> dict[str, int]:
    """Return for each analyzer which of the fixed distances gives most over the whole corpus, the first of equals.

    The rows that count are the same for all of them, so sums are compared.
    """
    if not rows.nulls.offsets or not rows.analyzers:
        return {}
    place = rows.nulls.at_offsets(len(rows.heads))
    sums = torch.zeros(len(rows.analyzers), len(rows.nulls.offsets), dtype=torch.float64)  # (analyzers, offsets)
    for part in parts:
        sums += part.readings[READINGS[0]].sums[:, place].sum(-1)
    return dict(zip(rows.analyzers, sums.argmax(1).tolist(), strict=True))


def profile_table(profile: ProfileSums, heads: Sequence[HeadName]) -> pa.Table:
    """Return the rows of profiles.parquet: by head and distance that some row sees."""
    means = (profile.sums / max(profile.rows, 1)).numpy()  # (heads + 1, distances)
    reached = means[-1] > 0
    distances = np.arange(means.shape[1])[reached] - profile.reach
    layer, head = np.array(heads).reshape(-1, 2).T
    count = len(distances)
    return pa.table(
        {
            "layer": np.repeat(layer, count),
            "head": np.repeat(head, count),
            "distance": np.tile(distances, len(heads)),
            "rows": np.full(len(heads) * count, profile.rows),
            "value": means[:-1, reached].ravel(),
            "chance": np.tile(means[-1, reached], len(heads)),
        }
    ).cast(PROFILES)
