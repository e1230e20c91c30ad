"""The novel: every chapter, with its verse marked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from headwise_corpora.shuihu import chapter, pinned_files


def test_the_index_names_the_files_of_the_novel(novel_folder: Path) -> None:
    """The 121 files on record have the names, sizes and sha256 of the files at hand."""
    pinned = pinned_files()
    at_hand = {
        f"水滸傳_(120回本)/{path.name}": (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in novel_folder.iterdir()
    }
    assert {file.path: (file.bytes, file.sha256) for file in pinned.files} == at_hand
    assert len(pinned.files) == 121
    assert pinned.size == sum(size for size, _ in at_hand.values())


def test_chapters_come_in_the_order_of_the_novel() -> None:
    """The prologue comes first, then chapters 1 to 120."""
    names = [file.path.removeprefix("水滸傳_(120回本)/") for file in pinned_files().files]
    assert names == ["引首.txt", *(f"第{number:03}回.txt" for number in range(1, 121))]


def test_every_line_that_is_set_as_verse_is_marked(novel_folder: Path) -> None:
    """Spans cover the 2,710 lines that are indented by four full-width blanks or more, without their indentation."""
    lines = 0
    for path in novel_folder.iterdir():
        text = path.read_text(encoding="utf-8")
        expected = [line.strip() for line in text.split("\n") if line.startswith("　　　　") and line.strip()]
        assert [text[start:end].strip() for start, end in chapter(path.stem, text).verse] == expected
        lines += len(expected)
    assert lines == 2710


def test_prose_is_not_marked() -> None:
    """A paragraph of prose, indented by two blanks, and an empty line give no span."""
    assert chapter("第001回", "　　話說大宋仁宗天子在位。\n\n　　　　\n　　但見：\n").verse == ()
