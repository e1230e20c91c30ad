"""What a plugin hands to headwise that brings models which were not trained here (hook `headwise_models`).

Nothing here imports torch at run time, so a plugin module can be listed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Encoding(Protocol):
    """The tokens of one window, as the `tokenizers` library gives them; each sequence has one entry for each token."""

    @property
    def ids(self) -> Sequence[int]:
        """In the model's vocabulary."""

    @property
    def tokens(self) -> Sequence[str]:
        """As the vocabulary writes them: `##able`, `Ġcat`, `[CLS]`."""

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """Where each stands in the text, in characters; (0, 0) where nowhere."""

    @property
    def special_tokens_mask(self) -> Sequence[int]:
        """1: put there by the tokenizer, not from the text."""

    @property
    def attention_mask(self) -> Sequence[int]:
        """0: padding."""


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model that somebody brings is loaded."""

    revision: str | None = None
    """Branch, tag or commit of a hub's repository; None: its main one."""
    dtype: str | None = None
    """float32, float16 or bfloat16; None: as the weights were saved."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtModel:
    """A model that was not trained here, with what it takes to let it read a text."""

    model: torch.nn.Module
    """In evaluation mode, on the processor."""
    encode: Callable[[str, int | None, int], Sequence[Encoding]]
    """`encode(text, context, overlap)` cuts a text in windows: all but the last have `context` tokens, special ones
    among them, and each repeats the last `overlap` tokens of the text that the one before had. None: one window."""
    context: int | None
    """Tokens that the model reads at once, at most; None: it sets no limit."""
    specials: int
    """Special tokens that `encode` puts in each window."""
    unknown: str | None
    """How the vocabulary writes what the tokenizer does not know; None: it knows everything."""
    run: Callable[[Any, torch.Tensor], object]
    """`run(model, ids)` lets the model, or one of its kind, read windows: int64 (windows, tokens), without padding."""
    start: tuple[int, str] | None = None
    """For a model that reads a source and writes a target: id and text of the token that the target begins with. `run`
    gives it the window as the source, and as the target this token and then the window without its last token."""
    untrained: Callable[[int], torch.nn.Module] | None = None
    """`untrained(seed)` returns the same model with random weights, as training would begin with."""
    weights: tuple[Path, ...]
    """The files that its weights were read from."""
    facts: Mapping[str, str | int | None]
    """What the report tells of it, by name: architecture, dtype, revision, parameters."""
    missing: tuple[str, ...] = ()
    """Weights that the files do not hold, so that they are random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where people's models come from: loads a model and its tokenizer by name.

    `opens(name)` tells, without loading or asking anyone, whether it takes such a name. `load(name, options)` raises
    `headwise.errors.ModelError` for what cannot be used.
    """

    name: str
    summary: str
    opens: Callable[[str], bool]
    load: Callable[[str, ModelOptions], BroughtModel]
    modules: tuple[str, ...] = ()
    """Modules that it imports and that headwise does not need itself."""
    extra: str = ""
    """How those modules are installed, for instance 'headwise[hf]'."""
