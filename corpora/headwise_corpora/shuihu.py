"""水滸傳 (Water Margin), the novel in 120 chapters: one document a chapter, with its verse marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import PurePosixPath

from headwise import Corpus, Document
from headwise_corpora.pinned_files import PinnedFile, PinnedFiles

VERSE = re.compile(r"^　{4}[^\S\n]*(\S.*)$", re.MULTILINE)
"""A line of verse: the edition indents it by four full-width blanks (a list by more), and prose by two."""


def pinned_files() -> PinnedFiles:
    """Return the 121 files: 引首 (the prologue) and 第001回 to 第120回."""
    manifest = (files("headwise_corpora") / "shuihu-manifest.tsv").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in manifest.splitlines())
    return PinnedFiles(
        corpus="shuihu",
        repository="michiboo/Classical_Chinese_Wikisource",
        commit="5acdca0628a0cb664858a0280b23488c194445e3",
        files=tuple(PinnedFile(path, int(size), sha256) for path, size, sha256 in lines),
    )


def shuihu() -> Corpus:
    """Return the corpus."""
    pinned = pinned_files()

    def documents() -> Iterator[Document]:
        for path, text in pinned.texts():
            yield chapter(PurePosixPath(path).stem, text)

    return Corpus(
        name="shuihu",
        summary="水滸傳 (Water Margin) in 120 chapters and a prologue, Traditional Chinese, verse marked",
        licence="the novel: public domain; this edition: CC BY-SA 3.0 (Wikisource)",
        source=f"Wikisource, by github.com/{pinned.repository} at commit {pinned.commit[:12]}",
        size=pinned.size,
        documents=documents,
        is_cached=pinned.is_cached,
        fetch=pinned.fetch,
    )


def chapter(name: str, text: str) -> Document:
    r"""Return a chapter with a verse span for each line of verse, its indentation left out.

    >>> chapter("第001回", "　　但見：\n　　　　祥雲迷鳳閣，瑞氣罩龍樓。\n　　當有殿頭官喝道").verse
    ((10, 22),)
    """
    return Document(name, text, tuple(line.span(1) for line in VERSE.finditer(text)))
