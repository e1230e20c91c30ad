"""headwise's own rules for roles."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from headwise.registry import installed
from headwise_plugins.roles.headwise_rules import assign


def evidence(*rows: dict[str, Any]) -> pd.DataFrame:
    """Rows of evidence for one head; an interval of 0.02 either side and a small q unless told."""
    filled = [
        {"layer": 0, "head": 0, "low": row["excess"] - 0.02, "high": row["excess"] + 0.02, "q": 0.001, **row}
        for row in rows
    ]
    return pd.DataFrame(filled, index=range(7, 7 + len(filled)))  # any index will do


@pytest.mark.parametrize(
    ("analyzer", "role"),
    [
        ("previous", "previous token"),
        ("self", "self"),
        ("next", "next token"),
        ("locality", "local"),
        ("punctuation-focus", "punctuation"),
        ("first-token", "first token"),
        ("sentence-start", "sentence start"),
        ("largest-weight", ""),
        ("mean-distance", ""),
    ],
)
def test_a_clear_excess_earns_the_role(analyzer: str, role: str) -> None:
    """Each pattern has one role; numbers that name no pattern have none."""
    assert assign(evidence({"analyzer": analyzer, "excess": 0.3})) == [role]


def test_the_whole_interval_must_clear_the_margin() -> None:
    """A low end of exactly 0.05 is not enough, however large the excess; nor is a q of 0.05."""
    row = {"analyzer": "previous", "excess": 0.3}
    assert assign(evidence({**row, "low": 0.05})) == [""]
    assert assign(evidence({**row, "low": 0.0501})) == ["previous token"]
    assert assign(evidence({**row, "q": 0.05})) == [""]
    assert assign(evidence({**row, "low": float("nan"), "high": float("nan"), "q": 1.0})) == [""]


def test_local_is_earned_where_no_single_place_makes_up_half_of_it() -> None:
    """A previous-token head is near by nature and is not called local for it; one that looks all round is."""
    near = {"analyzer": "locality", "excess": 0.5}
    assert assign(evidence(near, {"analyzer": "previous", "excess": 0.4})) == ["", "previous token"]
    assert assign(evidence(near, {"analyzer": "previous", "excess": 0.2})) == ["local", "previous token"]


def test_sentence_start_needs_more_than_the_first_token() -> None:
    """The first token starts a sentence, too, so a sink does not count as a head of sentence starts."""
    sink = {"analyzer": "first-token", "excess": 0.4}
    assert assign(evidence(sink, {"analyzer": "sentence-start", "excess": 0.41})) == ["first token", ""]


def test_even_is_for_heads_without_another_role() -> None:
    """A spread that stays within the margin of even is a role, unless the head does something plainer."""
    spread = {"analyzer": "entropy-share", "excess": -0.02}
    assert assign(evidence(spread)) == ["even"]
    assert assign(evidence({**spread, "excess": -0.04})) == [""]
    assert assign(evidence(spread, {"analyzer": "self", "excess": 0.1})) == ["", "self"]


def test_heads_are_judged_apart() -> None:
    """What one head earns says nothing of another, and roles come in the order of the rows."""
    frame = evidence(
        {"analyzer": "locality", "excess": 0.5},
        {"analyzer": "previous", "excess": 0.4, "head": 1},
        {"analyzer": "entropy-share", "excess": -0.01, "head": 2},
    )
    assert assign(frame) == ["local", "previous token", "even"]
    assert assign(frame.iloc[:0]) == []


def test_the_rules_are_registered_with_their_version() -> None:
    """A run can say by which rules its roles were given."""
    rules = installed().role_rules("headwise")
    assert (rules.name, rules.version, rules.assign) == ("headwise", "1", assign)
