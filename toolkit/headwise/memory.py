"""How much memory the analysis of one block of attention may take."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

SHARE = 1 / 8
"""Of what is free, for the analysis of one block."""
COPIES = 8
"""What the analysis of a block takes at its peak, in multiples of the weights of its own heads: the block and the same
of the untrained model, the heads that the nulls append, and the reading without the first key. Measured as the peak of
the process with every built-in analyzer: 6.6 of 144 heads."""
SHARED_HEADS = 24
"""What it takes beside that, however many heads there are, in heads: the fixed distances, what keys count, the mask.
With it, measured were 8.9 times the own weights of 12 heads, and 13.5 of 4."""
CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Where control groups, of the second and of the first version, tell their limit, what is used and what is cache."""


def default_memory(device: torch.device | None = None) -> int:
    """Return the bytes that the analysis of one block may take: an eighth of what is free where the weights are."""
    return int(free_memory(device) * SHARE)


def free_memory(device: torch.device | None = None) -> int:
    """Return the bytes that are free on a device, or to this process: of the machine or of its control group.

    >>> 0 < free_memory() <= psutil.virtual_memory().total
    True
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free: int = psutil.virtual_memory().available
    for folder, limit, used, cached in CGROUPS:
        allowed, taken = _number(folder / limit), _number(folder / used)
        if allowed is not None and taken is not None:
            free = min(free, max(allowed - taken + _cached(folder / "memory.stat", cached), 0))
    return free


def _number(path: Path) -> int | None:
    """Return the number in a file of the system; None where there is no such file or it says "max"."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _cached(path: Path, name: str) -> int:
    """Return the bytes of files that are in memory and can be dropped."""
    try:
        told = dict(line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return int(told.get(name, 0))
    except (OSError, ValueError):
        return 0
