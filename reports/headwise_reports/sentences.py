"""What the page says about the run as a whole, in sentences: corpus, model, padding, sample, method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headwise.format import format_value
from headwise.tokens import PADDING_TEXT

if TYPE_CHECKING:
    import pandas as pd

    from headwise.run import Run
    from headwise_reports.attention_data import EmbeddedAttention

FEW_DOCUMENTS = 12
"""So many are told one by one; of more, the range is told."""

NOUNS = {"character": "character", "word": "word"}
"""Tokenizer -> what one of its tokens is called; other tokenizers make tokens."""


def noun(run: Run) -> str:
    """Return what a token of this run is called."""
    return NOUNS.get(run.manifest["settings"]["tokenizer"], "token")


def counted(count: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "head"), counted(12500, "token")
    ('1 head', '12,500 tokens')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def lead(run: Run) -> str:
    """Say what the model is and what it read."""
    model, tokens = run.manifest["steps"]["train"], run.manifest["steps"]["tokens"]
    return (
        f"A model of {counted(model['layers'], 'layer')} with {counted(model['heads'], 'head')} each, made by the recipe "
        f"{model['recipe']} and trained for {counted(model['steps'], 'step')}, reads {tokens['corpus']}."
    )


def facts(run: Run, with_role: int) -> list[tuple[str, str]]:
    """Return the few numbers that tell how large everything is, with their names."""
    tokens = run.manifest["steps"]["tokens"]
    return [
        ("heads", f"{len(run.heads):,}"),
        ("with a role", f"{with_role:,}"),
        ("documents", f"{tokens['documents']:,}"),
        (f"{noun(run)}s", f"{tokens['tokens']:,}"),
    ]


def padding_sentences(run: Run) -> str:
    """Say how much attention falls on padding; '' where the model masks it or sees none."""
    measured = run.measurements()
    padded = measured[(measured["analyzer"] == "padding") & (measured["rows"] > 0) & (measured["value"] > 0)]
    if padded.empty:
        return ""
    shares = padded.groupby("document", sort=False)[["value", "chance"]].mean()
    shares = shares.loc[[name for name in run.documents if name in shares.index]]
    if len(shares) <= FEW_DOCUMENTS:
        told = "; ".join(f"{_beside_chance(row)} of that of {name}" for name, row in shares.iterrows())
    else:
        least, most = (format_value(value, "share") for value in (shares["value"].min(), shares["value"].max()))
        told = f"{_beside_chance(shares.mean())} of that of {len(shares)} documents, from {least} to {most}"
    return (
        f"Much attention is spent on nothing: shorter documents are filled up with padding (shown as {PADDING_TEXT}) to "
        f"the length of the longest, and this model does not mask it. Averaged over the heads, padding takes {told}."
    )


def _beside_chance(row: pd.Series[float]) -> str:
    return f"{format_value(row['value'], 'share')} ({format_value(row['chance'], 'share')} by chance)"


def kept_sentences(run: Run, embedded: EmbeddedAttention) -> list[str]:
    """Say which windows can be read on the page, and that measurements have seen all of them."""
    if not embedded.kept:
        return [f"This run keeps no attention in full, so there is none to read here; `headwise export {run.path.name} "
                "--keep sample` keeps some. The measurements have seen every window."]  # fmt: skip
    said = []
    if embedded.kept < embedded.total:
        said.append(f"This is a sample: {embedded.kept} of {embedded.total} windows are kept in full. The measurements "
                    "have seen every window.")  # fmt: skip
    if len(embedded.windows) < embedded.kept:
        shown = ", ".join(f"{window.document} {window.number}" for window in embedded.windows)
        said.append(f"To keep this page small it carries {len(embedded.windows)} of those {embedded.kept} windows: "
                    f"{shown}.")  # fmt: skip
    if embedded.heads_left_out:
        names = ", ".join(map(str, embedded.heads_left_out))
        said.append(f"To keep this page small these heads cannot be read on it: {names}. The run folder holds them.")
    return said


def interval_sentences(run: Run) -> list[str]:
    """Say what chance is, how the intervals were made, and what a role takes."""
    analyze = run.manifest["steps"]["analyze"]
    methods = "; ".join(sorted(set(run.evidence()["method"])))
    return [
        "Chance is the same measurement of attention spread evenly over everything that a token can see. Excess is the "
        "value less its chance.",
        f"The interval of an excess holds the middle {analyze['confidence']:.0%} of {analyze['resamples']:,} resamples "
        f"({methods}). Single weights and rows depend on each other and are never resampled. The q-values are Benjamini "
        "and Hochberg's, over all heads and analyzers.",
        f"Roles are given by the rules {analyze['rules']}. A head that earns none shows no clear pattern. Attention tells "
        "what a head looks at; it does not explain what the model does.",
        "The weights on this page are rounded: each is one of 256 steps that are even in the square root, between 0 and "
        "the largest weight of its head and window. The exact ones are in the Parquet files of the run.",
    ]


def provenance(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what the run was made from and with, as titled lists of names and values."""
    manifest = run.manifest
    steps: dict[str, dict[str, Any]] = manifest["steps"]
    wanted = {"tokens": "Corpus", "train": "Model", "export": "Attention kept"}
    groups = [
        (title, [(name, _told(value)) for name, value in steps[step].items() if not isinstance(value, dict | list)])
        for step, title in wanted.items()
    ]
    settings = [(name, _told(value)) for name, value in manifest["settings"].items()]
    recipe = [(name, _told(value)) for name, value in steps["train"].get("settings", {}).items()]
    versions = [(name, str(value)) for name, value in manifest["versions"].items()]
    return [*groups, ("Settings", settings), ("Settings of the recipe", recipe), ("Versions", versions)]


def _told(value: object) -> str:
    """Return a setting as text.

    >>> _told({"name": "reader", "width": 64}), _told(True), _told(None), _told(612000)
    ('name reader, width 64', 'yes', '–', '612,000')
    """
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
