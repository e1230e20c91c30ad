"""The corpora that are downloaded when they are first used: a Chinese novel and an English one."""

from __future__ import annotations

from collections.abc import Iterator

from headwise import Corpus, hookimpl
from headwise_corpora.moby_dick import moby_dick
from headwise_corpora.shuihu import shuihu


@hookimpl
def headwise_corpora() -> Iterator[Corpus]:
    """Offer both."""
    yield shuihu()
    yield moby_dick()
