"""What each head does, in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from headwise import Run
from headwise.block import HeadName
from headwise.run_folder import RunFolder
from headwise.summary import HeadSummary, summarize
from headwise.tables import EVIDENCE

ANALYZERS = [
    {
        "name": "previous",
        "kind": "row",
        "unit": "share",
        "sentence": "puts {value} of its attention on what comes before",
    },
    {"name": "self", "kind": "row", "unit": "share", "sentence": "puts {value} of its attention on the token itself"},
    {"name": "entropy", "kind": "row", "unit": "nats", "sentence": ""},
    {"name": "far", "kind": "row", "unit": "tokens", "sentence": "looks {value} tokens away {chance} {0.__class__}"},
]


def a_run(folder: Path, *rows: dict[str, Any]) -> Run:
    """An analyzed run of two heads with this evidence."""
    filled = [
        {"layer": 0, "head": 0, "rows": 100, "chance": 0.1, "p": 0.001, "q": 0.001, "role": "", "method": "bootstrap",
         "excess": row["value"] - 0.1, "low": row["value"] - 0.15, "high": row["value"] - 0.05, **row}
        for row in rows
    ]  # fmt: skip
    run = RunFolder.begin(folder, {"seed": 0}, {})
    frame = pd.DataFrame(filled, columns=EVIDENCE.names)
    run.write_table("evidence.parquet", pa.Table.from_pandas(frame, schema=EVIDENCE, preserve_index=False))
    run.finish("train", [], layers=1, heads=2)
    run.finish("analyze", ["evidence.parquet"], analyzers=ANALYZERS)
    return Run(run)


def test_a_role_is_told_with_value_chance_and_interval(tmp_path: Path) -> None:
    """The sentence has the analyzer's words and all four numbers; a head without evidence has none."""
    run = a_run(tmp_path, {"analyzer": "self", "value": 0.45}, {"analyzer": "previous", "value": 0.4, "role": "copies"})
    assert summarize(run) == [
        HeadSummary(
            HeadName(0, 0),
            "copies",
            "L0H0 puts 0.40 of its attention on what comes before "
            "(0.10 by chance; interval of the excess 0.25 to 0.35)",
            (1,),
        ),
        HeadSummary(HeadName(0, 1), "", "L0H1 shows no clear pattern", ()),
    ]


def test_of_several_roles_the_one_with_the_largest_excess_is_told(tmp_path: Path) -> None:
    """A head that earns two roles is told by the stronger."""
    run = a_run(
        tmp_path,
        {"analyzer": "previous", "value": 0.3, "role": "copies"},
        {"analyzer": "self", "value": 0.5, "role": "self"},
    )
    assert (summarize(run)[0].role, summarize(run)[0].rows) == ("self", (1,))


def test_without_a_role_the_nearest_pattern_is_told(tmp_path: Path) -> None:
    """The largest excess among shares that have a sentence; entropy, which names no pattern, is not taken."""
    run = a_run(
        tmp_path,
        {"analyzer": "entropy", "value": 3.0},
        {"analyzer": "previous", "value": 0.11},
        {"analyzer": "self", "value": 0.13, "low": np.nan, "high": np.nan},
        {"analyzer": "previous", "value": 0.104, "head": 1},
    )
    first, second = summarize(run)
    assert first.sentence == (
        "L0H0 shows no clear pattern; nearest: it puts 0.13 of its attention on the token itself "
        "(0.10 by chance; too little text for an interval)"
    )
    assert (first.role, first.rows) == ("", (2,))
    assert second.sentence == (
        "L0H1 shows no clear pattern; nearest: it puts 0.10 of its attention on what comes before "
        "(0.10 by chance; interval of the excess -0.05 to 0.05)"
    )


def test_a_strangers_template_is_only_text(tmp_path: Path) -> None:
    """Nothing but {value} is filled in, and a role whose analyzer has no words is told by its name."""
    run = a_run(
        tmp_path,
        {"analyzer": "far", "value": 15.75, "role": "far"},
        {"analyzer": "entropy", "value": 1.5, "head": 1, "role": "odd"},
    )
    first, second = (summary.sentence for summary in summarize(run))
    assert first.startswith("L0H0 looks 15.8 tokens away {chance} {0.__class__} (0.1 by chance; ")
    assert second.startswith("L0H1 has entropy 1.50 (0.10 by chance; ")
