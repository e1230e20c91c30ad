"""Fixtures that tests of every part share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def novel_folder() -> Path:
    """The whole novel, one file a chapter, where it lies beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "corpora" / "shuihu"
    if not folder.is_dir():
        pytest.skip(f"the whole novel is not at hand: {folder} does not exist")
    return folder
