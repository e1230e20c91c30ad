"""Asks models of transformers for torch's attention kernel while they are observed, and sets them back.

Such a model is known by what it offers, `set_attn_implementation` and a configuration that names the implementation;
transformers itself is never imported.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from headwise.errors import ObservationError

KERNEL = "sdpa"
"""What transformers calls torch's kernel."""

_LOCK = threading.Lock()


@dataclass(slots=True)
class _Asked:
    """A configuration that was asked for the kernel, by so many blocks, and what it had before."""

    config: Any
    before: str | None
    blocks: int = 0


_ASKED: dict[int, _Asked] = {}


@contextmanager
def asked_for_the_kernel(model: torch.nn.Module) -> Iterator[None]:
    """Have the models of transformers in a model attend by torch's kernel while the block runs.

    Blocks of several threads may do so with the same model: the last that ends sets it back.

    Raises:
        ObservationError: a model does not offer that.
    """
    configs = _configs(model)
    with _LOCK:
        before = {id(config): config._attn_implementation for config in configs}  # noqa: SLF001  # its only name
        for config in configs:
            _ASKED.setdefault(id(config), _Asked(config, before[id(config)])).blocks += 1
        try:
            _ask(model)
        except BaseException:
            _set_back(configs)
            raise
    try:
        yield
    finally:
        with _LOCK:
            _set_back(configs)


def _ask(model: torch.nn.Module) -> None:
    for name, module in _models(model):
        if not _differs(module.config):
            continue
        had = module.config._attn_implementation  # noqa: SLF001
        try:
            module.set_attn_implementation(KERNEL)
        except (ValueError, ImportError, NotImplementedError) as error:
            raise _refusal(name, had) from error
        if _differs(module.config):
            raise _refusal(name, had)


def _refusal(name: str, had: str) -> ObservationError:
    return ObservationError(
        f"{name} attends by the implementation '{had}' and does not offer torch's kernel ('{KERNEL}'), so it cannot be "
        "observed; give its weights to headwise.record"
    )


def _set_back(configs: list[Any]) -> None:
    """Set back those that no other block needs; those that hold others come first, since they set all within."""
    for config in configs:
        asked = _ASKED[id(config)]
        asked.blocks -= 1
    for config in configs:
        if not _ASKED[id(config)].blocks:
            before = _ASKED.pop(id(config)).before
            if config._attn_implementation != before:  # noqa: SLF001
                config._attn_implementation_internal = before  # noqa: SLF001  # its setter would change those within


def _models(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the models of transformers within a model, with their names."""
    for name, module in model.named_modules():
        if hasattr(module, "set_attn_implementation") and hasattr(module, "config"):
            yield name or type(module).__name__, module


def _configs(model: torch.nn.Module) -> list[Any]:
    """Return the configurations of these models and those within them, each once."""
    found: dict[int, Any] = {}
    waiting = [module.config for _, module in _models(model)]
    while waiting:
        config = waiting.pop()
        if id(config) not in found and hasattr(config, "_attn_implementation"):
            found[id(config)] = config
            waiting += [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]
    return list(found.values())


def _differs(config: Any) -> bool:
    implementation = config._attn_implementation  # noqa: SLF001
    return implementation is not None and not implementation.endswith(KERNEL)
