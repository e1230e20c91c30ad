"""A claim about heads, and how it is decided."""

from __future__ import annotations

from collections.abc import Iterable

from headwise import Claim, hookimpl


@hookimpl
def headwise_claims() -> Iterable[Claim]:
    """Offer `keeps-to-the-sentence`."""
    yield Claim(
        name="keeps-to-the-sentence",
        quote="some heads keep to the sentence",
        meaning="a head keeps its attention within the sentence that it is reading",
        source="the authors of headwise-example",
        analyzers=("same-sentence",),
        nulls=("even", "distance"),  # a head that looks near keeps to the sentence by its distances alone
        margin=0.1,
    )
