"""The versions that a run's numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "headwise",
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "seaborn",
    "matplotlib",
    "pluggy",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Return the version of Python, of headwise and of each library that numbers and pictures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # headwise run from a folder, not installed
            found[package] = "not installed"
    return found
