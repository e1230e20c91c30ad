"""Words by the dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwise_plugins.chinese.words import word_spans

pytest.importorskip("opencc")
pytest.importorskip("rjieba")


def words(text: str) -> list[str]:
    """The words of a text."""
    return [text[start:end] for start, end in word_spans(text)]


def test_traditional_text_is_cut_as_its_simplified_form() -> None:
    """The dictionary knows 瑞气 and not 瑞氣; the words come back as they stood in the text."""
    assert words("瑞氣罩龍樓") == ["瑞氣", "罩", "龍", "樓"]
    assert words("瑞气罩龙楼") == ["瑞气", "罩", "龙", "楼"]


def test_no_words_are_guessed() -> None:
    """What jieba makes a word by guessing, 迷鳳閣, stays apart."""
    assert words("祥雲迷鳳閣") == ["祥雲", "迷", "鳳", "閣"]


@given(st.text(alphabet="天子乾隆皇后發髮裏里面麵臺台只隻。，\nabc 𠀀😀", max_size=40))
def test_the_words_are_the_whole_text_in_order(text: str) -> None:
    """Nothing is lost or doubled, whatever stands in the text."""
    spans = word_spans(text)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert "".join(words(text)) == text
