"""Spreads the work of a group of heads over an engine: chunk by chunk, for the distance profiles, then for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from headwise import progress
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.failure import Failure
from headwise.measuring.chunks import Chunk, Work, analyzers, measure_chunk, nulls_of, opened, profile_chunk
from headwise.measuring.exemplars import ChosenRows
from headwise.measuring.measured_rows import MeasuredRows
from headwise.measuring.measurement_tables import GroupSums
from headwise.measuring.profile import ProfileSums
from headwise.measuring.row_gathering import Gathered
from headwise.registry import Registry
from headwise.run_folder import writing
from headwise.text.token_store import TokenStore, parts_of

CHUNK_TOKENS = 16_384
"""Tokens of a chunk, at least; a document is never parted."""


@dataclass(frozen=True, slots=True)
class GroupRun:
    """A group of heads whose chunks are done."""

    work: Work
    chunks: list[Chunk]
    profile: ProfileSums | None
    """Of the whole corpus; None: there are no distances."""

    def sums(self, registry: Registry, failed: frozenset[str]) -> GroupSums:
        """Return what the tables are made of."""
        ready = analyzers(self.work, registry).ready
        rows = MeasuredRows(
            self.work.group.heads,
            [one.name for one in ready if isinstance(one.value, Analyzer)],
            [one.name for one in ready if isinstance(one.value, PairAnalyzer)],
            nulls_of(self.work, untrained=opened(self.work, registry).untrained is not None).heads,
            failed=failed,
        )
        return GroupSums([chunk.sums for chunk in self.chunks], rows, self.profile)


@dataclass(frozen=True, slots=True)
class Spread:
    """An engine, and what its workers read."""

    executor: Executor
    store: TokenStore
    registry: Registry | None
    """None: workers take what is installed."""

    def measured(self, work: Work) -> GroupRun:
        """Do the work of every chunk of a group of heads; what is there already is not done again."""
        chunks = list(_chunks(work, self.store))
        told = f" ({work.group.name})" if work.group.name else ""
        profile = None
        if not work.group.cross:
            self._each(chunks, f"Measuring distances{told}", profile_chunk, lambda chunk: chunk.profile)
            profile = _joined_profile(work, chunks)
        self._each(chunks, f"Measuring{told}", measure_chunk, lambda chunk: chunk.sums)
        return GroupRun(work, chunks, profile)

    def exemplars(self, group: GroupRun, rows: MeasuredRows) -> pa.Table:
        """Choose the rows that are shown of a group, and read them again."""
        gathered = Gathered.merged(Gathered.of(load_file(chunk.rows)) for chunk in group.chunks)
        chosen = ChosenRows.of(gathered, self.store, group.work.sample.context, rows)
        return chosen.table(group.work, self.executor, self.registry)

    def _each(
        self,
        chunks: Sequence[Chunk],
        description: str,
        work: Callable[[Chunk, Registry | None], None],
        file: Callable[[Chunk], Path],
    ) -> None:
        """Do the work of every chunk whose file is not there yet."""
        total = sum(self.store.lengths)
        with progress.task(description, total=total) as task:
            waiting = [chunk for chunk in chunks if not _readable(file(chunk))]
            task.advance(total - sum(map(self._tokens, waiting)))
            futures = []
            for chunk in waiting:
                future = self.executor.submit(work, chunk, self.registry)
                future.add_done_callback(partial(_advance, task, self._tokens(chunk)))
                if future.done():  # an engine that runs at once: a failure need not wait for the other chunks
                    future.result()
                futures.append(future)
            for future in futures:
                future.result()

    def _tokens(self, chunk: Chunk) -> int:
        return sum(map(self.store.length, chunk.documents))


def _advance(task: progress.Task, tokens: int, finished: Future[None]) -> None:
    del finished  # what a callback is told
    task.advance(tokens)


def _joined_profile(work: Work, chunks: Sequence[Chunk]) -> ProfileSums:
    """Add up the profiles of all chunks, in their order, where every worker finds them."""
    first, *others = (ProfileSums.of(load_file(chunk.profile)) for chunk in chunks)
    for other in others:
        first.join(other)
    with writing(work.profile) as path:
        path.write_bytes(save(first.tensors()))
    return first


def failures_of(parts: Sequence[Path]) -> list[Failure]:
    """Every analyzer that failed in any chunk, once."""
    found: dict[str, Failure] = {}
    for path in parts:
        for failure in facts_of(path)["failures"]:
            found.setdefault(failure["name"], Failure(**failure))
    return list(found.values())


def facts_of(path: Path) -> dict[str, Any]:
    """Return what a chunk left beside its sums."""
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    return facts


def _chunks(work: Work, store: TokenStore) -> Iterator[Chunk]:
    lengths = dict(zip(store.names, store.lengths, strict=True))
    first = 0
    for number, documents in enumerate(parts_of(lengths, CHUNK_TOKENS)):
        yield Chunk(work, number, tuple(documents), first)
        first += sum(lengths[name] for name in documents)


def _readable(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return bool(file.metadata())
    except (OSError, SafetensorError):
        return False
