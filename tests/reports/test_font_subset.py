"""The page carries the glyphs of its own text, and no others."""

from __future__ import annotations

import io

from fontTools.ttLib import TTFont

from headwise.showing.fonts import chinese_font
from headwise_reports.font_subset import subset


def font_bytes(characters: str) -> bytes:
    """Return a subset of the Chinese font."""
    font = chinese_font()
    assert font is not None
    return subset(font, characters)


def test_a_subset_has_the_characters_asked_for() -> None:
    """Chinese, Latin and punctuation are there; what was not asked for is not."""
    opened = TTFont(io.BytesIO(font_bytes("祥雲，aé")))
    assert set(opened.getBestCmap()) == {ord(character) for character in "祥雲，aé"}


def test_traditional_forms_are_kept() -> None:
    """The forms that `lang` chooses between stay in the font."""
    opened = TTFont(io.BytesIO(font_bytes("骨")))
    assert "locl" in {record.FeatureTag for record in opened["GSUB"].table.FeatureList.FeatureRecord}


def test_a_character_that_the_font_lacks_is_left_out() -> None:
    """One character without a glyph does not cost the others theirs."""
    opened = TTFont(io.BytesIO(font_bytes("雲\U0010fffd")))
    assert set(opened.getBestCmap()) == {ord("雲")}


def test_the_same_characters_give_the_same_bytes() -> None:
    """The order of the characters does not matter either."""
    assert font_bytes("祥雲") == font_bytes("雲祥")
