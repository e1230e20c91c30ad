"""What of a plugin failed and was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from headwise.errors import PluginError
from headwise.registry import Offered


@dataclass(frozen=True, slots=True)
class Failure:
    """A plugin's object that broke its promise and was left out."""

    what: str
    name: str
    plugin: str
    distribution: str
    message: str

    @property
    def sentence(self) -> str:
        """What failed, where it comes from and why."""
        return f"the {self.what} '{self.name}' from {self.distribution} is left out: {self.message}"

    @classmethod
    def of(cls, offered: Offered, message: str) -> Self:
        """Make the failure of something that a plugin offered."""
        return cls(offered.kind, offered.name, offered.plugin, offered.distribution, message)

    @classmethod
    def caught(cls, offered: Offered, error: Exception, *, strict: bool = False) -> Self:
        """Make the failure of what raised; with `strict` raise it as PluginError."""
        told = str(error) if isinstance(error, PluginError) else f"it raised {type(error).__name__}: {error}"
        if strict:
            message = f"the {offered.kind} '{offered.name}' ({offered.origin}) failed: {told}"
            raise PluginError(message) from error
        return cls.of(offered, told)
