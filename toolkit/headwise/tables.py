"""The tables of a run folder: their columns, types and meaning. Plain Parquet that any reader opens."""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
"""Goes up when a table changes in a way that readers notice; a run of another version is refused."""

TOKENS = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),  # among the document's tokens, from 0
        pa.field("token", pa.string(), nullable=False),
        pa.field("id", pa.int32(), nullable=False),  # in the model's vocabulary
        pa.field("start", pa.int64(), nullable=False),  # in the document's text, in characters
        pa.field("end", pa.int64(), nullable=False),
        *(
            pa.field(name, pa.bool_(), nullable=False)
            for name in ("punctuation", "clause_end", "quotation", "sentence_start", "verse", "special")
        ),
    ]
)
TRAINING = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),  # from 1
        pa.field("loss", pa.float64(), nullable=False),
        pa.field("held_out_loss", pa.float64()),  # null at steps where it was not taken
        pa.field("seconds", pa.float64(), nullable=False),  # since training began
    ]
)
ATTENTION = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("window", pa.int32(), nullable=False),
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("query", pa.int32(), nullable=False),  # place in the window
        pa.field("first_key", pa.int32(), nullable=False),  # place in the window of the first of these weights
        pa.field("weights", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),
    ]
)
MEASUREMENTS = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("analyzer", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),  # null where no row of the document counts
        pa.field("chance", pa.float64()),
    ]
)
STRETCHES = MEASUREMENTS.insert(1, pa.field("stretch", pa.int32(), nullable=False))  # contiguous rows of a document
PAIRS = pa.schema(
    [
        pa.field("document", pa.string(), nullable=False),
        pa.field("layer_a", pa.int16(), nullable=False),
        pa.field("head_a", pa.int16(), nullable=False),
        pa.field("layer_b", pa.int16(), nullable=False),
        pa.field("head_b", pa.int16(), nullable=False),
        pa.field("analyzer", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
PROFILES = pa.schema(
    [
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("distance", pa.int32(), nullable=False),  # query - key; negative: the key lies ahead
        pa.field("rows", pa.int64(), nullable=False),  # rows of the whole corpus
        pa.field("value", pa.float64(), nullable=False),  # mean weight at that distance, over all rows
        pa.field("chance", pa.float64(), nullable=False),
    ]
)
EVIDENCE = pa.schema(
    [
        pa.field("layer", pa.int16(), nullable=False),
        pa.field("head", pa.int16(), nullable=False),
        pa.field("analyzer", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),  # over all rows of the corpus
        pa.field("chance", pa.float64(), nullable=False),
        pa.field("excess", pa.float64(), nullable=False),  # value - chance
        pa.field("low", pa.float64()),  # interval of the excess; null where too little could be resampled
        pa.field("high", pa.float64()),
        pa.field("p", pa.float64(), nullable=False),  # two-sided, bootstrap
        pa.field("q", pa.float64(), nullable=False),  # Benjamini-Hochberg over heads and analyzers
        pa.field("role", pa.string(), nullable=False),  # '' where none is earned
        pa.field("method", pa.string(), nullable=False),  # what was resampled
    ]
)

FILES: dict[str, pa.Schema] = {
    "tokens.parquet": TOKENS,
    "training.parquet": TRAINING,
    "measurements.parquet": MEASUREMENTS,
    "stretches.parquet": STRETCHES,
    "pairs.parquet": PAIRS,
    "profiles.parquet": PROFILES,
    "evidence.parquet": EVIDENCE,
}
