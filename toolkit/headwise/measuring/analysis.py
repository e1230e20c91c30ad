"""The step `analyze`: measures every document of a run, spread over an engine, and writes the tables.

Documents are gathered in chunks, and the chunks are worked through twice: for the distance profiles of the heads, which
one of the nulls follows from, and for the measurements. Each time each chunk leaves one file of sums in the work
folder, whole or not at all, so an interrupted analysis continues; chunks are merged in their order, so the tables are
the same bytes whatever the engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pyarrow as pa

from headwise import progress
from headwise import registry as plugins
from headwise.contracts import Analyzer, PairAnalyzer
from headwise.device import choose_device
from headwise.failure import Failure
from headwise.measuring.chunks import NO_HEADS, Work, analyzers
from headwise.measuring.measurement_tables import merged
from headwise.measuring.preparation import Missing, Options, parted
from headwise.measuring.row_order import Sample
from headwise.measuring.self_checks import SelfChecks
from headwise.measuring.spread import Spread, facts_of, failures_of
from headwise.memory import default_memory
from headwise.models.opening import weights_sha256
from headwise.observing.head_groups import groups_of
from headwise.registry import Offered, Registry
from headwise.run_folder import RunFolder
from headwise.text.token_store import TokenStore

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
    memory: int | None = None,
) -> Measured:
    """Measure every document of a run and write measurements, stretches, pairs, profiles, exemplars and self-checks.

    Heads that see different keys are measured group by group.

    Raises:
        SettingsError: options that an analyzer cannot use.
    """
    store = TokenStore(folder.path / "tokens.parquet")
    work = _work(folder, registry, store, pad_to=pad_to, device=device, strict=strict, options=options, memory=memory)
    with progress.task("Preparing the analyzers"):
        ready, failures, missing = analyzers(work, registry)
    spread = Spread(executor, store, None if registry is plugins.installed(strict=strict) else registry)
    groups = [spread.measured(work.of(group)) for group in groups_of(folder.manifest)]
    files = [chunk.sums for group in groups for chunk in group.chunks]
    failures = failures + failures_of(files)
    failed = frozenset(failure.name for failure in failures)
    sums = [group.sums(registry, failed) for group in groups]
    stage = folder.stage("analyze")
    with progress.task("Writing the measurements"):
        written = merged(stage, sums, by_stretches=work.by_stretches)
    exemplars = [spread.exemplars(group, own.rows) for group, own in zip(groups, sums, strict=True)]
    stage.write_table("exemplars.parquet", pa.concat_tables(exemplars))
    checks = SelfChecks.merged(facts_of(path)["checks"] for path in files)
    stage.write_table("checks.parquet", checks.table())
    return Measured(stage, [*written, "exemplars.parquet", "checks.parquet"], failures, missing, described(ready))


def _work(
    folder: RunFolder, registry: Registry, store: TokenStore, *, pad_to: int | None, device: str, strict: bool,
    options: Options, memory: int | None,
) -> Work:  # fmt: skip
    """Return what is the same for every group of heads and every chunk."""
    offered = registry.offered("analyzer")
    inputs = weights_sha256(folder), folder.manifest["files"]["tokens.parquet"]["sha256"]
    releases = [_release(name) for name in sorted({one.distribution for one in offered})]
    known = _digest(fingerprint(offered, options), releases, pad_to, inputs)
    return Work(
        run=str(folder.path),
        place=str(folder.work / f"measure-{known[:12]}"),
        inputs=inputs,
        options=json.dumps(options, sort_keys=True, default=str),
        group=NO_HEADS,
        sample=Sample.of(
            dict(zip(store.names, store.lengths, strict=True)), folder.manifest["steps"]["tokens"]["context"]
        ),
        by_stretches=len(store.names) < STRETCHED_DOCUMENTS,
        pad_to=pad_to,
        device=device,
        strict=strict,
        memory=default_memory(choose_device(device)) if memory is None else memory,
    )


def _digest(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _release(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # an analyzer of this program's own
        return ""
