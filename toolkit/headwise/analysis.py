"""The step `analyze`: measures every document of a run, spread over an engine, and writes the tables.

Documents are gathered in chunks. Each chunk leaves one file of sums in the work folder, whole or not at all, so an
interrupted analysis continues; chunks are merged in their order, so the tables are the same bytes whatever the engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from headwise import progress
from headwise import registry as plugins
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.device import choose_device
from headwise.evidence import FEWEST_DOCUMENTS
from headwise.measure import DocumentSums, Failure, Measuring, ProfileSums
from headwise.measurement_tables import merged
from headwise.model_store import LoadedModel, load_model
from headwise.reading import read
from headwise.registry import Offered, Registry
from headwise.run_folder import RunFolder, writing
from headwise.token_store import TokenStore

CHUNK_TOKENS = 16_384
"""Tokens of a chunk, at least; a document is never parted."""
STRETCH_ROWS = 16
"""Rows of a stretch, at least."""
STRETCHES = 64
"""Stretches of a document, at most."""
STRETCHED_DOCUMENTS = 5 * FEWEST_DOCUMENTS
"""With fewer documents, stretches are kept: an analyzer may have rows in too few of them to resample documents."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some documents to measure; all that a worker needs, and it can be sent to another process."""

    run: str
    number: int
    documents: tuple[str, ...]
    by_stretches: bool
    pad_to: int | None
    device: str
    strict: bool
    file: str
    """Where the sums go."""
    model: str
    """sha256 of the model, so that a worker does not take an earlier one for it."""


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


def measure_run(
    folder: RunFolder, registry: Registry, executor: Executor, *, pad_to: int | None, device: str, strict: bool
) -> tuple[RunFolder, list[str], list[Failure]]:
    """Measure every document of a run and write measurements, stretches, pairs and profiles.

    Returns the stage that holds the files, their names, and the analyzers that were left out.
    """
    store = TokenStore(folder.path / "tokens.parquet")
    offered = registry.offered("analyzer")
    place = folder.work / f"measure-{_fingerprint(folder, offered, pad_to)}"
    by_stretches = len(store.names) < STRETCHED_DOCUMENTS
    chunks = [
        Chunk(str(folder.path), number, documents, by_stretches, pad_to, device, strict,
              str(place / f"part-{number:05d}.safetensors"), folder.manifest["files"]["model.safetensors"]["sha256"])
        for number, documents in enumerate(_gathered(store))
    ]  # fmt: skip
    with progress.task("Measuring", total=sum(store.lengths)) as task:
        waiting = [chunk for chunk in chunks if not _readable(Path(chunk.file))]
        task.advance(sum(store.lengths) - sum(store.length(name) for chunk in waiting for name in chunk.documents))
        local = None if registry is plugins.installed(strict=strict) else registry
        futures = []
        for chunk in waiting:
            future = executor.submit(measure_chunk, chunk, local)
            future.add_done_callback(partial(_advance, task, sum(map(store.length, chunk.documents))))
            if future.done():  # an engine that runs at once: a failure need not wait for the other chunks
                future.result()
            futures.append(future)
        for future in futures:
            future.result()
    stage = folder.stage("analyze")
    files, failures = merged(stage, [Path(chunk.file) for chunk in chunks], offered, by_stretches=by_stretches)
    return stage, files, failures


def _advance(task: progress.Task, tokens: int, finished: Future[None]) -> None:
    del finished  # what a callback is told
    task.advance(tokens)


def measure_chunk(chunk: Chunk, registry: Registry | None = None) -> None:
    """Measure the documents of a chunk and write their sums; runs in whatever process the engine chooses."""
    registry = plugins.installed(strict=chunk.strict) if registry is None else registry
    loaded, store = _opened(chunk.run, chunk.device, chunk.model, registry)
    measuring = Measuring.of(registry.offered("analyzer"), strict=chunk.strict)
    shape = RunFolder.open(chunk.run).manifest["steps"]["train"]
    heads = shape["layers"] * shape["heads"]
    profile = ProfileSums(heads, (chunk.pad_to or loaded.settings.context or 1) - 1)
    tensors: dict[str, torch.Tensor] = {}
    for name in chunk.documents:
        sums = _measure_document(loaded, store, name, measuring, profile, chunk)
        tensors |= {
            f"{name}/rows": sums.rows,
            f"{name}/sums": sums.sums,
            f"{name}/pair_rows": torch.tensor(sums.pair_rows),
            f"{name}/pairs": sums.pairs,
        }
    tensors["profile"] = profile.sums
    facts = {
        "documents": chunk.documents,
        "failures": [asdict(failure) for failure in measuring.failures],
        "profile_rows": profile.rows,
    }
    with writing(Path(chunk.file)) as path:
        path.write_bytes(save(tensors, {"facts": json.dumps(facts)}))


def _measure_document(
    loaded: LoadedModel, store: TokenStore, name: str, measuring: Measuring, profile: ProfileSums, chunk: Chunk
) -> DocumentSums:
    tokens = store.tokens(name)
    rows = _stretch_rows(len(tokens)) if chunk.by_stretches else len(tokens)
    sums = measuring.start(profile.sums.shape[0] - 1, -(-len(tokens) // rows))
    for batch in read(loaded, tokens, pad_to=chunk.pad_to):
        for block in batch.seen.blocks(batch.tokens, even=True):
            measuring.add(sums, block, block.tokens.positions[block.queries].cpu() // rows)
            profile.add(block)
    return sums


def _stretch_rows(length: int) -> int:
    """How many rows of a document make a stretch: contiguous ones, since neighbouring rows depend on each other."""
    return max(STRETCH_ROWS, -(-length // STRETCHES))


@lru_cache(maxsize=1)
def _opened(run: str, device: str, model: str, registry: Registry) -> tuple[LoadedModel, TokenStore]:
    del model  # it tells one entry of the cache from another
    folder = RunFolder.open(run)
    return load_model(folder, registry, choose_device(device)), TokenStore(folder.path / "tokens.parquet")


def _gathered(store: TokenStore) -> Iterator[tuple[str, ...]]:
    waiting: list[str] = []
    tokens = 0
    for name in store.names:
        waiting.append(name)
        tokens += store.length(name)
        if tokens >= CHUNK_TOKENS:
            yield tuple(waiting)
            waiting, tokens = [], 0
    if waiting:
        yield tuple(waiting)


def _fingerprint(folder: RunFolder, offered: Sequence[Offered], pad_to: int | None) -> str:
    """Tell apart sums that other analyzers, another model or other tokens left in the work folder."""
    files = folder.manifest["files"]
    releases = [_release(name) for name in sorted({one.distribution for one in offered})]
    inputs = [files[name]["sha256"] for name in ("model.safetensors", "tokens.parquet")]
    what = [described(offered), releases, pad_to, inputs]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


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
