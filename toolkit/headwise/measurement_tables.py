"""Merges the sums of all chunks into the tables of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import safe_open

from headwise.contracts import Analyzer, PairAnalyzer
from headwise.measure import Failure
from headwise.registry import Offered
from headwise.run_folder import RunFolder
from headwise.tables import FILES


def merged(
    stage: RunFolder, files: Sequence[Path], offered: Sequence[Offered], *, by_stretches: bool
) -> tuple[list[str], list[Failure]]:
    """Merge the sums of all chunks, in their order, and write measurements, stretches, pairs and profiles.

    Without `by_stretches` the table of stretches stays empty. Returns the names of the files, and every analyzer that
    failed somewhere; what it gave elsewhere is left out.
    """
    failures = _all_failures(files)
    tables = _Tables(stage, offered, {failure.name for failure in failures}, by_stretches=by_stretches)
    for path in files:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for name in facts["documents"]:
                tables.add_document(name, file.get_tensor(f"{name}/rows"), file.get_tensor(f"{name}/sums"))
                tables.add_pairs(name, int(file.get_tensor(f"{name}/pair_rows")), file.get_tensor(f"{name}/pairs"))
            tables.add_profile(file.get_tensor("profile"), facts["profile_rows"])
    return tables.write(), failures


def _all_failures(files: Sequence[Path]) -> list[Failure]:
    """Every analyzer that failed in any chunk, once."""
    found: dict[str, Failure] = {}
    for path in files:
        with safe_open(path, "pt") as file:
            for failure in json.loads(file.metadata()["facts"])["failures"]:
                found.setdefault(failure["name"], Failure(**failure))
    return list(found.values())


class _Tables:
    """Turns sums into the rows of the tables, document by document."""

    def __init__(self, stage: RunFolder, offered: Sequence[Offered], failed: set[str], *, by_stretches: bool) -> None:
        self._stage = stage
        self._by_stretches = by_stretches
        shape = stage.manifest["steps"]["train"]
        self._layer, self._head = (
            part.ravel() for part in np.indices((shape["layers"], shape["heads"]), dtype=np.int16)
        )
        self._rows = [one.name for one in offered if isinstance(one.value, Analyzer)]
        self._pairs = [one.name for one in offered if isinstance(one.value, PairAnalyzer)]
        self._failed = failed
        self._parts: dict[str, list[pa.Table]] = {
            f"{kind}.parquet": [] for kind in ("measurements", "stretches", "pairs")
        }
        self._profile: torch.Tensor | None = None
        self._profile_rows = 0

    def add_document(self, name: str, rows: torch.Tensor, sums: torch.Tensor) -> None:
        """Add one document: rows (analyzers, stretches), sums (analyzers, heads + 1, stretches)."""
        count = rows.shape[-1]
        for index, analyzer in enumerate(self._rows):
            if analyzer in self._failed:
                continue
            whole = self._measured(name, analyzer, rows[index].sum().item(), sums[index].sum(-1))
            self._parts["measurements.parquet"].append(pa.table(whole))
            for stretch in range(count if self._by_stretches else 0):
                part = self._measured(name, analyzer, rows[index, stretch].item(), sums[index, :, stretch])
                number = np.full(len(self._layer), stretch)
                self._parts["stretches.parquet"].append(pa.table({"document": part.pop("document"), "stretch": number,
                                                                  **part}))  # fmt: skip

    def _measured(self, document: str, analyzer: str, rows: float, sums: torch.Tensor) -> dict[str, Any]:
        heads = len(self._layer)
        empty = np.full(heads + 1, rows == 0)
        means = pa.array(sums.numpy() / max(rows, 1), mask=empty)
        return {
            "document": pa.repeat(document, heads),
            "layer": self._layer,
            "head": self._head,
            "analyzer": pa.repeat(analyzer, heads),
            "rows": np.full(heads, int(rows)),
            "value": means[:-1],
            "chance": pa.array(np.full(heads, sums[-1].item() / max(rows, 1)), mask=empty[:-1]),
        }

    def add_pairs(self, document: str, rows: int, pairs: torch.Tensor) -> None:
        """Add one document's sums of pairs, float64 (pair analyzers, heads, heads), over so many rows."""
        first, second = np.triu_indices(len(self._layer), k=1)
        for index, analyzer in enumerate(self._pairs):
            if analyzer in self._failed or not len(first) or not rows:
                continue
            self._parts["pairs.parquet"].append(
                pa.table(
                    {
                        "document": pa.repeat(document, len(first)),
                        "layer_a": self._layer[first],
                        "head_a": self._head[first],
                        "layer_b": self._layer[second],
                        "head_b": self._head[second],
                        "analyzer": pa.repeat(analyzer, len(first)),
                        "rows": np.full(len(first), rows),
                        "value": pairs[index].numpy()[first, second] / rows,
                    }
                )
            )

    def add_profile(self, sums: torch.Tensor, rows: int) -> None:
        """Add the sums by distance, float64 (heads + 1, distances), of one chunk."""
        self._profile = sums if self._profile is None else self._profile + sums
        self._profile_rows += rows

    def write(self) -> list[str]:
        """Write the tables and return the names of their files."""
        for name, parts in self._parts.items():
            schema = FILES[name]
            empty = schema.empty_table()
            self._stage.write_table(name, pa.concat_tables([empty, *(part.cast(schema) for part in parts)]))
        self._stage.write_table("profiles.parquet", self._profile_table())
        return [*self._parts, "profiles.parquet"]

    def _profile_table(self) -> pa.Table:
        if self._profile is None:
            return FILES["profiles.parquet"].empty_table()
        means = (self._profile / max(self._profile_rows, 1)).numpy()  # (heads + 1, distances)
        reached = means[-1] > 0  # distances that some row can see
        distances = np.arange(means.shape[1])[reached] - means.shape[1] // 2
        heads, count = len(self._layer), int(reached.sum())
        return pa.table(
            {
                "layer": np.repeat(self._layer, count),
                "head": np.repeat(self._head, count),
                "distance": np.tile(distances, heads),
                "rows": np.full(heads * count, self._profile_rows),
                "value": means[:-1, reached].ravel(),
                "chance": np.tile(means[-1, reached], heads),
            }
        )
