"""Fixtures that tests of every part share."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from headwise.pipeline import Pipeline
from headwise.settings import RunSettings

hypothesis.settings.register_profile("any-machine", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def novel_folder() -> Path:
    """The whole novel, one file a chapter, where it lies beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "corpora" / "shuihu"
    if not folder.is_dir():
        pytest.skip(f"the whole novel is not at hand: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def article_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe `article` on the three passages, with its report; tests must not change it."""
    return _finished(tmp_path_factory.mktemp("runs") / "article", {"name": "article"})


@pytest.fixture(scope="session")
def reader_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small `reader` of two layers on the three passages; tests must not change it."""
    recipe = {"name": "reader", "layers": 2, "heads": 2, "width": 16, "context": 48, "steps": 20}
    return _finished(tmp_path_factory.mktemp("runs") / "reader", recipe)


def _finished(path: Path, recipe: dict[str, object]) -> Path:
    Pipeline.begin(RunSettings(recipe=recipe), path, strict=True).run()
    return path
