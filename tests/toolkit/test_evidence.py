"""Evidence: excess over chance with its interval, p and q, and the roles that it earns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from headwise import RoleRules
from headwise.errors import PluginError
from headwise.evidence import weigh
from headwise.tables import EVIDENCE, MEASUREMENTS, STRETCHES

Floats = npt.NDArray[np.float64]

NO_ROLES = RoleRules(name="none", version="1", summary="no roles", assign=lambda evidence: [""] * len(evidence))


def measurements(values: Floats, rows: npt.NDArray[np.int64], *, chance: float = 0.1, head: int = 0) -> pd.DataFrame:
    """One analyzer of one head on as many documents as there are values."""
    return pd.DataFrame(
        {
            "document": [f"chapter {number}" for number in range(len(values))],
            "layer": 0,
            "head": head,
            "analyzer": "previous",
            "rows": rows,
            "value": values,
            "chance": chance,
        }
    )


def corpus(documents: int, seed: int = 0, heads: int = 1) -> pd.DataFrame:
    """Documents of different lengths, whose values scatter around 0.2."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(1, 400, documents)
    return pd.concat(
        [measurements(draw.normal(0.2, 0.1, documents), rows, head=head) for head in range(heads)], ignore_index=True
    )


def in_stretches(frame: pd.DataFrame, number: int = 1) -> pd.DataFrame:
    """The same measurements by stretch: each document in `number` stretches of the same value."""
    parts = [frame.assign(stretch=stretch) for stretch in range(number)]
    return pd.concat(parts, ignore_index=True).reindex(columns=STRETCHES.names)


def weighed(frame: pd.DataFrame, stretches: pd.DataFrame | None = None, *, rules: RoleRules = NO_ROLES, seed: int = 0,
            resamples: int = 2000, confidence: float = 0.95) -> pd.DataFrame:  # fmt: skip
    """Weigh with the settings that matter to a test."""
    parts = in_stretches(frame) if stretches is None else stretches
    return weigh(frame, parts, seed=seed, resamples=resamples, confidence=confidence, rules=rules)


def test_values_are_pooled_over_rows() -> None:
    """A document of three rows counts three times as much as one of a single row."""
    frame = measurements(np.array([0.2, 0.6]), np.array([3, 1]), chance=0.05)
    row = weighed(frame).iloc[0]
    assert row["value"] == pytest.approx((3 * 0.2 + 0.6) / 4)
    assert row["rows"] == 4
    assert row["excess"] == pytest.approx(row["value"] - 0.05)


def test_columns_are_those_of_the_table() -> None:
    """The frame is the table `evidence.parquet`, for heads with and without an interval, and for none at all."""
    for frame in (corpus(25, heads=3), corpus(2), corpus(3).iloc[:0]):
        evidence = weighed(frame)
        assert list(evidence.columns) == EVIDENCE.names
        table = pa.Table.from_pandas(evidence, schema=EVIDENCE, preserve_index=False)
        assert table.num_rows == len(frame) // max(1, frame["document"].nunique())


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_agrees_with_scipy(confidence: float) -> None:
    """SciPy's percentile bootstrap of the same ratio gives the same interval, within the error of resampling."""
    frame = corpus(40)
    row = weighed(frame, resamples=20_000, confidence=confidence).iloc[0]
    total, rows = ((frame["value"] - frame["chance"]) * frame["rows"]).to_numpy(), frame["rows"].to_numpy()
    second = bootstrap(
        (total, rows),
        lambda excess, count, axis: excess.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = second.high - second.low
    assert row["low"] == pytest.approx(second.low, abs=0.03 * width)
    assert row["high"] == pytest.approx(second.high, abs=0.03 * width)
    assert row["method"] == "bootstrap over 40 documents"


def test_an_even_head_has_no_excess() -> None:
    """What equals its chance value has an excess of exactly 0, an interval of no width, and p and q of 1."""
    frame = corpus(30).assign(value=lambda rows: rows["chance"])
    row = weighed(frame).iloc[0]
    assert [row[name] for name in ("excess", "low", "high", "p", "q")] == [0, 0, 0, 1, 1]


def test_rounding_of_the_weights_is_no_evidence() -> None:
    """A head that differs from even by what float32 rounds, always the same way, is not told from chance."""
    row = weighed(corpus(30).assign(value=lambda rows: rows["chance"] + 1e-8)).iloc[0]
    assert (row["excess"], row["p"]) == (0, 1)


def test_p_counts_resamples_on_the_other_side_of_chance() -> None:
    """No resample crosses where every document is above chance: p is 2 / (resamples + 1), and never 0."""
    frame = measurements(np.linspace(0.2, 0.3, 25), np.full(25, 10))
    assert weighed(frame, resamples=999).iloc[0]["p"] == pytest.approx(2 / 1000)
    below = measurements(np.linspace(0.0, 0.05, 25), np.full(25, 10))
    assert weighed(below, resamples=999).iloc[0]["p"] == pytest.approx(2 / 1000)


def test_few_documents_are_resampled_by_stretch() -> None:
    """With 19 documents the stretches are drawn, with 20 the documents."""
    few, enough = corpus(19), corpus(20)
    assert weighed(few, in_stretches(few, 4)).iloc[0]["method"] == "bootstrap over 76 stretches of rows"
    assert weighed(enough, in_stretches(enough, 4)).iloc[0]["method"] == "bootstrap over 20 documents"


def test_documents_without_rows_are_not_drawn() -> None:
    """Of 30 documents only those with rows that count are things to resample."""
    frame = corpus(30)
    frame.loc[frame.index[:8], ["rows", "value", "chance"]] = [0, np.nan, np.nan]
    other = corpus(30).assign(analyzer="self")
    both = weighed(pd.concat([frame, other], ignore_index=True))
    assert both["analyzer"].tolist() == ["previous", "self"]
    assert both["method"].tolist() == ["bootstrap over 22 documents", "bootstrap over 30 documents"]
    alone = weighed(frame)
    for name in ("low", "high", "p"):
        assert both[name].iloc[0] == alone[name].iloc[0]


def test_too_little_to_resample_gives_no_interval() -> None:
    """Four stretches are too few: no interval, p and q of 1; five are enough."""
    frame = corpus(1)
    row = weighed(frame, in_stretches(frame, 4)).iloc[0]
    assert row[["low", "high"]].isna().all()
    assert (row["p"], row["q"], row["method"]) == (1, 1, "no interval: too few stretches of rows")
    assert weighed(frame, in_stretches(frame, 5)).iloc[0]["method"] == "bootstrap over 5 stretches of rows"
    assert weighed(frame, in_stretches(frame).iloc[:0]).iloc[0]["p"] == 1


def test_an_analyzer_without_rows_is_left_out() -> None:
    """Where no row of any document counts there is nothing to say."""
    nothing = corpus(25).assign(analyzer="padding", rows=0, value=np.nan, chance=np.nan)
    evidence = weighed(pd.concat([corpus(25), nothing], ignore_index=True))
    assert evidence["analyzer"].tolist() == ["previous"]


def test_the_order_of_documents_changes_nothing() -> None:
    """Any order of the rows of the table gives the same bits."""
    frame = corpus(25, heads=3)
    shuffled = frame.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(weighed(frame), weighed(shuffled), check_exact=True)


def test_the_seed_decides() -> None:
    """The same seed gives the same interval, another seed another; other heads beside it change nothing."""
    frame = corpus(25)
    assert weighed(frame).equals(weighed(frame))
    assert not weighed(frame).equals(weighed(frame, seed=1))
    with_others = weighed(pd.concat([frame, corpus(25, seed=5).assign(head=1)], ignore_index=True))
    assert with_others.iloc[0]["low"] == pytest.approx(weighed(frame).iloc[0]["low"], rel=1e-12)


@given(st.lists(st.floats(0, 0.3), min_size=2, max_size=12), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_what_always_holds(means: Sequence[float], seed: int) -> None:
    """A q-value never falls under its p-value, both lie in 0..1, and ends are in order."""
    draw = np.random.default_rng(seed)
    frame = pd.concat(
        [measurements(draw.normal(mean, 0.1, 22), draw.integers(1, 50, 22), head=head)
         for head, mean in enumerate(means)],
        ignore_index=True,
    )  # fmt: skip
    evidence = weighed(frame, resamples=200)
    assert (evidence["q"] >= evidence["p"]).all()
    assert evidence["p"].between(0, 1).all()
    assert (evidence["low"] <= evidence["high"]).all()
    assert np.allclose(evidence["excess"], evidence["value"] - evidence["chance"], atol=1e-6)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 400 simulated corpora of 60 documents, the 95 % interval covers the true excess in 91 to 98 of 100."""
    draw = np.random.default_rng(7)
    frames = []
    for head in range(400):  # each head stands for a corpus of its own
        rows = draw.integers(50, 400, 60)
        frames.append(measurements(draw.normal(0.2, 0.1, 60), rows, head=head))
    evidence = weighed(pd.concat(frames, ignore_index=True))
    covered = (evidence["low"] <= 0.1) & (evidence["high"] >= 0.1)
    assert 0.91 <= covered.mean() <= 0.98


def test_heads_without_a_pattern_are_rarely_told_from_chance() -> None:
    """Of 400 heads that scatter around chance, about one in twenty has p under 0.05, and hardly one a q under it."""
    draw = np.random.default_rng(8)
    frames = [measurements(draw.normal(0.1, 0.05, 60), draw.integers(50, 400, 60), head=head) for head in range(400)]
    evidence = weighed(pd.concat(frames, ignore_index=True))
    assert 0.02 <= (evidence["p"] < 0.05).mean() <= 0.09
    assert (evidence["q"] < 0.05).mean() <= 0.01


def test_a_large_model_and_corpus_take_seconds() -> None:
    """12 x 12 heads, 12 analyzers and 300 documents, with 2,000 resamples, in less than half a minute."""
    draw = np.random.default_rng(9)
    index = pd.MultiIndex.from_product(
        [[f"chapter {number:03}" for number in range(300)], range(12), range(12), [f"a{n}" for n in range(12)]],
        names=["document", "layer", "head", "analyzer"],
    )
    frame = index.to_frame(index=False)
    frame["rows"] = np.repeat(draw.integers(50, 400, 300), 144 * 12)
    frame["value"], frame["chance"] = draw.random(len(frame)), 0.5
    start = time.perf_counter()
    evidence = weighed(frame, in_stretches(frame.iloc[:0]))
    assert len(evidence) == 144 * 12
    assert time.perf_counter() - start < 30


def role_of(choice: Callable[[pd.DataFrame], Sequence[str]]) -> RoleRules:
    """Rules that choose like this."""
    return replace(NO_ROLES, name="mine", assign=choice)


def test_roles_come_from_the_rules() -> None:
    """The rules see the evidence with its q-values, and what they give is kept."""
    rules = role_of(lambda rows: ["copies" if q < 0.05 else "" for q in rows["q"]])
    assert weighed(corpus(30, heads=2), rules=rules)["role"].tolist() == ["copies", "copies"]


@pytest.mark.parametrize("choice", [lambda _: [], lambda rows: [None] * len(rows), lambda rows: rows["nothing"]])
def test_rules_that_break_their_promise_are_named(choice: Callable[[pd.DataFrame], Sequence[str]]) -> None:
    """Too few roles, roles that are no text and an exception: each is one sentence with the name of the rules."""
    with pytest.raises(PluginError, match=r"the rule set 'mine' (gave|failed)"):
        weighed(corpus(30), rules=role_of(choice))


def test_the_tables_have_the_columns_that_weigh_reads() -> None:
    """The frames of these tests are the tables `measurements.parquet` and `stretches.parquet`."""
    assert list(corpus(2).columns) == MEASUREMENTS.names
    assert list(in_stretches(corpus(2)).columns) == STRETCHES.names
