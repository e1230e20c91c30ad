"""Where the model runs, and what makes it run there twice alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from headwise.errors import SettingsError, UnknownNameError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; `auto` is the first cuda device, else mps, else the cpu.

    Raises:
        UnknownNameError: no such kind of device.
        SettingsError: a device that this machine does not have, or torch cannot use.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not (kind == "cuda" and number.isdecimal())):
        raise UnknownNameError("device", name, DEVICES)
    cuda_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if kind == "auto":
        kind = "cuda" if cuda_devices else "mps" if has_mps else "cpu"
    if kind == "cuda" and int(number or 0) >= cuda_devices:
        message = f"torch finds {cuda_devices} cuda devices here, so '{name}' cannot be used; use --device auto"
        raise SettingsError(message)
    if kind == "mps" and not has_mps:
        message = f"torch finds no mps device here, so '{name}' cannot be used; use --device auto"
        raise SettingsError(message)
    return torch.device(kind, int(number or 0)) if kind == "cuda" else torch.device(kind)


@contextmanager
def deterministic(*, wanted: bool = True) -> Iterator[None]:
    """Let torch use only algorithms that give the same bits each time on the same machine, while the block runs.

    Unless they are wanted, any algorithm may be used within a block that would not allow it. Memory that nothing was
    written to is not filled: torch would, for those who read it, and that takes a tenth of the time of training.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    filling: Any = torch.utils.deterministic  # torch adds the attribute when it is imported
    before = torch.get_deterministic_debug_mode(), filling.fill_uninitialized_memory
    # use_deterministic_algorithms would import torch's compiler first
    torch.set_deterministic_debug_mode("error" if wanted else "default")
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        filling.fill_uninitialized_memory = before[1]
