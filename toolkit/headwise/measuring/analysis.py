"""The step `analyze`: measures every document of a run, spread over an engine, and writes the tables.

Documents are gathered in chunks, and the chunks are worked through twice: for the distance profiles of the heads, which
one of the nulls follows from, and for the measurements. Each time each chunk leaves one file of sums in the work
folder, whole or not at all, so an interrupted analysis continues; chunks are merged in their order, so the tables are
the same bytes whatever the engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from headwise import progress
from headwise import registry as plugins
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.failure import Failure
from headwise.measuring.chunks import Chunk, Work, analyzers, measure_chunk, opened, profile_chunk
from headwise.measuring.exemplars import ChosenRows
from headwise.measuring.measured_rows import MeasuredRows
from headwise.measuring.measurement_tables import merged
from headwise.measuring.nulls import Nulls
from headwise.measuring.preparation import Missing, Options, parted
from headwise.measuring.profile import ProfileSums
from headwise.measuring.row_gathering import Gathered
from headwise.measuring.row_order import Sample
from headwise.measuring.self_checks import SelfChecks
from headwise.observing.block import HeadName
from headwise.registry import Offered, Registry
from headwise.run_folder import RunFolder, writing
from headwise.text.token_store import TokenStore

CHUNK_TOKENS = 16_384
"""Tokens of a chunk, at least; a document is never parted."""
STRETCHED_DOCUMENTS = 100
"""With fewer documents, stretches are kept: an analyzer may have rows in so few of them that documents cannot be
resampled (see `headwise.weighing.evidence`)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the step made, before it is recorded."""

    stage: RunFolder
    """Holds the files."""
    files: list[str]
    failures: list[Failure]
    """Analyzers that broke their promise and were left out."""
    missing: list[Missing]
    """Analyzers that need a library that is not installed."""
    analyzers: list[dict[str, Any]]
    """What the report tells of each analyzer, as it was prepared."""


def described(offered: Sequence[Offered]) -> list[dict[str, Any]]:
    """Return what the report tells of each analyzer, as JSON."""
    return [
        {
            "name": one.name,
            "kind": "pair" if isinstance(one.value, PairAnalyzer) else "row",
            "plugin": one.plugin,
            "distribution": one.distribution,
            "unit": one.value.unit,
            "summary": one.value.summary,
            "bounds": [bound if np.isfinite(bound) else None for bound in one.value.bounds],
            "formula": one.value.formula,
            "source": one.value.source,
            "sentence": getattr(one.value, "sentence", ""),
        }
        for one in offered
        if isinstance(one.value, (Analyzer, PairAnalyzer))
    ]


def fingerprint(offered: Sequence[Offered], options: Options) -> str:
    """Return a text that tells apart analyses by other analyzers or options; nothing is prepared for it."""
    present, missing = parted(offered)
    return _digest(described(present), [one.name for one in missing], options)


def measure_run(
    folder: RunFolder,
    registry: Registry,
    executor: Executor,
    *,
    pad_to: int | None,
    device: str,
    strict: bool,
    options: Options,
) -> Measured:
    """Measure every document of a run and write measurements, stretches, pairs, profiles and exemplars.

    Raises:
        SettingsError: options that an analyzer cannot use.
    """
    store = TokenStore(folder.path / "tokens.parquet")
    work = _work(folder, registry, store, pad_to=pad_to, device=device, strict=strict, options=options)
    with progress.task("Preparing the analyzers"):
        ready, failures, missing = analyzers(work, registry)
    chunks = list(_chunks(work, store))
    local = None if registry is plugins.installed(strict=strict) else registry
    each = partial(_for_each, chunks, executor, store, local)
    each("Measuring distances", profile_chunk, lambda chunk: chunk.profile)
    profile = _join_profiles(work, chunks)
    each("Measuring", measure_chunk, lambda chunk: chunk.sums)

    failures = failures + _failures([chunk.sums for chunk in chunks])
    shape = folder.manifest["steps"]["train"]
    rows = MeasuredRows(
        [HeadName(layer, head) for layer in range(shape["layers"]) for head in range(shape["heads"])],
        [one.name for one in ready if isinstance(one.value, Analyzer)],
        [one.name for one in ready if isinstance(one.value, PairAnalyzer)],
        Nulls(profile, untrained=opened(work, registry).untrained is not None).heads,
        failed=frozenset(failure.name for failure in failures),
    )
    stage = folder.stage("analyze")
    with progress.task("Writing the measurements"):
        files = merged(stage, [chunk.sums for chunk in chunks], rows, profile, by_stretches=work.by_stretches)
    gathered = Gathered.merged(Gathered.of(load_file(chunk.rows)) for chunk in chunks)
    chosen = ChosenRows.of(gathered, store, work.sample.context, rows)
    stage.write_table("exemplars.parquet", chosen.table(work, executor, local))
    checks = SelfChecks.merged(_facts(chunk.sums)["checks"] for chunk in chunks)
    stage.write_table("checks.parquet", checks.table())
    return Measured(stage, [*files, "exemplars.parquet", "checks.parquet"], failures, missing, described(ready))


def _work(
    folder: RunFolder, registry: Registry, store: TokenStore, *, pad_to: int | None, device: str, strict: bool,
    options: Options,
) -> Work:  # fmt: skip
    offered = registry.offered("analyzer")
    inputs = tuple(folder.manifest["files"][name]["sha256"] for name in ("model.safetensors", "tokens.parquet"))
    releases = [_release(name) for name in sorted({one.distribution for one in offered})]
    known = _digest(fingerprint(offered, options), releases, pad_to, inputs)
    shape, context = folder.manifest["steps"]["train"], folder.manifest["steps"]["tokens"]["context"]
    return Work(
        run=str(folder.path),
        place=str(folder.work / f"measure-{known[:12]}"),
        inputs=inputs,
        options=json.dumps(options, sort_keys=True, default=str),
        heads=shape["layers"] * shape["heads"],
        sample=Sample.of(dict(zip(store.names, store.lengths, strict=True)), context),
        by_stretches=len(store.names) < STRETCHED_DOCUMENTS,
        pad_to=pad_to,
        device=device,
        strict=strict,
    )


def _for_each(
    chunks: Sequence[Chunk],
    executor: Executor,
    store: TokenStore,
    registry: Registry | None,
    description: str,
    work: Callable[[Chunk, Registry | None], None],
    file: Callable[[Chunk], Path],
) -> None:
    """Do the work of every chunk whose file is not there yet."""
    total = sum(store.lengths)
    with progress.task(description, total=total) as task:
        waiting = [chunk for chunk in chunks if not _readable(file(chunk))]
        task.advance(total - sum(_tokens(store, chunk) for chunk in waiting))
        futures = []
        for chunk in waiting:
            future = executor.submit(work, chunk, registry)
            future.add_done_callback(partial(_advance, task, _tokens(store, chunk)))
            if future.done():  # an engine that runs at once: a failure need not wait for the other chunks
                future.result()
            futures.append(future)
        for future in futures:
            future.result()


def _tokens(store: TokenStore, chunk: Chunk) -> int:
    return sum(map(store.length, chunk.documents))


def _advance(task: progress.Task, tokens: int, finished: Future[None]) -> None:
    del finished  # what a callback is told
    task.advance(tokens)


def _join_profiles(work: Work, chunks: Sequence[Chunk]) -> ProfileSums:
    """Add up the profiles of all chunks, in their order, where every worker finds them."""
    first, *others = (ProfileSums.of(load_file(chunk.profile)) for chunk in chunks)
    for other in others:
        first.join(other)
    with writing(work.profile) as path:
        path.write_bytes(save(first.tensors()))
    return first


def _failures(parts: Sequence[Path]) -> list[Failure]:
    """Every analyzer that failed in any chunk, once."""
    found: dict[str, Failure] = {}
    for path in parts:
        for failure in _facts(path)["failures"]:
            found.setdefault(failure["name"], Failure(**failure))
    return list(found.values())


def _facts(path: Path) -> dict[str, Any]:
    """Return the facts beside the sums of a chunk."""
    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
        return facts


def _chunks(work: Work, store: TokenStore) -> Iterator[Chunk]:
    number, first, tokens = 0, 0, 0
    waiting: list[str] = []
    for name in store.names:
        waiting.append(name)
        tokens += store.length(name)
        if tokens >= CHUNK_TOKENS:
            yield Chunk(work, number, tuple(waiting), first)
            number, first, tokens, waiting = number + 1, first + tokens, 0, []
    if waiting:
        yield Chunk(work, number, tuple(waiting), first)


def _digest(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _release(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # an analyzer of this program's own
        return ""


def _readable(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return bool(file.metadata())
    except (OSError, SafetensorError):
        return False
