"""Words of Chinese, by a dictionary.

rjieba cuts by the dictionary of jieba, which knows simplified characters far better than traditional ones; so OpenCC
simplifies the text first, character for character. Words that the dictionary lacks are not guessed: jieba's guesses are
of modern Chinese, and make 迷鳳閣 and 珠履聚 words of the novel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opencc import OpenCC


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where the words of the text start and end, in characters; together they are the whole text.

    >>> text = "天子駕坐紫宸殿"
    >>> [text[start:end] for start, end in word_spans(text)]
    ['天子', '駕', '坐', '紫宸殿']
    """
    import rjieba

    simplified = _simplifier().convert(text)
    spans = []
    start = 0
    for word in rjieba.cut(simplified if len(simplified) == len(text) else text, False):
        spans.append((start, start + len(word)))
        start += len(word)
    return spans


@lru_cache(maxsize=1)
def _simplifier() -> OpenCC:
    from opencc import OpenCC

    return OpenCC("t2s")
