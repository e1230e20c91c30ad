"""The analysis of a run: the same tables whatever the engine, the blocks, the chunks or the interruptions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import headwise
from headwise import analysis, observation
from headwise.pipeline import Pipeline
from headwise.registry import PluginWarning, Registry, installed
from headwise.run_folder import sha256

TABLES = (
    "measurements.parquet", "stretches.parquet", "pairs.parquet", "profiles.parquet", "evidence.parquet",
    "exemplars.parquet",
)  # fmt: skip


@pytest.fixture
def copy(reader_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be changed."""
    return Path(shutil.copytree(reader_run, tmp_path / "copy"))


def tables(run: Path) -> dict[str, str]:
    """Return the sha256 of each table of the analysis."""
    return {name: sha256(run / name) for name in TABLES}


def with_analyzer(run: object) -> Registry:
    """Return what is installed, with one more analyzer."""
    registry = Registry().load()
    registry.add("mine", {"headwise_analyzers": lambda: [
        headwise.Analyzer(name="mine", run=run, unit="share", summary="")]})  # type: ignore[arg-type]  # fmt: skip
    return registry


def test_engines_give_the_same_bytes(copy: Path, reader_run: Path) -> None:
    """Two processes write what one does."""
    Pipeline.resume(copy, engine="processes", workers=2).analyze()
    assert tables(copy) == tables(reader_run)


def test_small_chunks_and_an_interruption_change_no_byte(
    copy: Path, reader_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document a chunk, cut in the middle and taken up again: the finished chunk is not measured again."""
    monkeypatch.setattr(analysis, "CHUNK_TOKENS", 1)
    measured: list[int] = []
    whole = analysis.measure_chunk

    def cut(chunk: analysis.Chunk, registry: Registry | None = None) -> None:
        if len(measured) == 1 and chunk.number not in measured:
            measured.append(chunk.number)
            raise KeyboardInterrupt
        measured.append(chunk.number)
        whole(chunk, registry)

    monkeypatch.setattr(analysis, "measure_chunk", cut)
    with pytest.raises(KeyboardInterrupt):
        Pipeline.resume(copy).analyze()
    Pipeline.resume(copy).analyze()
    assert measured == [0, 1, 1, 2]
    merged = {name: pd.read_parquet(copy / name) for name in TABLES}
    for name, frame in merged.items():  # profiles are summed chunk by chunk, so only to rounding
        pd.testing.assert_frame_equal(frame, pd.read_parquet(reader_run / name), check_exact=False, rtol=1e-9)


def test_no_number_depends_on_the_size_of_blocks(copy: Path, reader_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows give every measurement within 1e-6 of those of whole windows."""
    whole = observation.Observation.blocks
    monkeypatch.setattr(
        observation.Observation, "blocks",
        lambda self, tokens=None, *, even=False, memory=0: whole(self, tokens, even=even, memory=memory or 2000),
    )  # fmt: skip
    Pipeline.resume(copy).analyze()
    for name in ("measurements.parquet", "pairs.parquet", "profiles.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(copy / name), pd.read_parquet(reader_run / name), check_exact=False, rtol=0, atol=1e-6
        )


def test_a_new_analyzer_joins_the_others(copy: Path) -> None:
    """An analyzer of one's own is measured beside the built-in ones, with its chance, for every head."""
    registry = with_analyzer(lambda block: block.weights @ block.tokens.quotation.float())
    Pipeline.resume(copy, registry=registry).analyze()
    mine = headwise.open_run(copy).measurements().query("analyzer == 'mine'")
    assert len(mine) == 3 * 4
    assert mine.drop_duplicates(["document", "chance"]).shape[0] == 3  # one chance value a document


def test_a_failing_analyzer_is_told_and_the_rest_stands(copy: Path, reader_run: Path) -> None:
    """One that returns NaN is absent from the tables and named in run.json; the others' numbers are the same."""
    registry = with_analyzer(lambda block: torch.full(block.weights.shape[:2], torch.nan))
    with pytest.warns(PluginWarning, match="the analyzer 'mine' .* is left out: it returned NaN"):
        Pipeline.resume(copy, registry=registry).analyze()
    run, before = headwise.open_run(copy), headwise.open_run(reader_run)
    pd.testing.assert_frame_equal(run.measurements(), before.measurements())
    (failure,) = run.manifest["failures"]
    assert failure["name"] == "mine"
    assert "NaN" in failure["message"]


def test_failing_role_rules_cost_the_roles_alone(copy: Path, reader_run: Path) -> None:
    """Rules that raise leave every number as it is, and no head has a role."""
    registry = Registry().load()
    failing = headwise.RoleRules(
        name="mine", version="1", summary="", margin=0.1, assign=lambda frame: list(frame["nothing"])
    )
    registry.add("mine", {"headwise_roles": lambda: [failing]})
    pipeline = Pipeline.resume(copy, registry=registry)
    with pytest.warns(PluginWarning, match="the rule set 'mine'"):
        replace(pipeline, settings=pipeline.settings.model_copy(update={"rules": "mine"})).analyze()
    after, before = headwise.open_run(copy).evidence(), headwise.open_run(reader_run).evidence()
    pd.testing.assert_frame_equal(after.drop(columns="role"), before.drop(columns="role"))
    assert set(after["role"]) == {""}


def test_measured_padding_is_what_the_article_left_unmasked(article_run: Path) -> None:
    """The shorter passages give a sixth to a quarter of their attention to padding, as the article's program does."""
    measured = headwise.open_run(article_run).measurements().query("analyzer == 'padding' and rows > 0")
    assert measured["document"].nunique() == 2
    by_head = measured.groupby("head")["value"].mean()
    assert by_head.between(0.15, 0.27).all()


def test_installed_registry_is_loaded_once() -> None:
    """Asking twice gives the same registry."""
    assert installed() is installed()
