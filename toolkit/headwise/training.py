"""Training: carries out the plan that a recipe makes, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from headwise.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class TrainingMaterial:
    """The corpus as a recipe sees it."""

    ids: npt.NDArray[np.int32]
    """(tokens,): all documents one after the other; may be memory-mapped, so that it need not fit in memory."""
    lengths: tuple[int, ...]
    """Tokens of each document, in order; they sum to `len(ids)`."""
    vocabulary: Vocabulary
    device: torch.device
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What training a model takes; headwise runs the loop, keeps the checkpoints and says how it goes.

    `loss(step)` returns the loss of that step (from 1), with gradients: its batch depends on the step and the seed
    alone, so that a continued training goes on as if it had not been cut.
    """

    steps: int
    optimizer: torch.optim.Optimizer
    loss: Callable[[int], torch.Tensor]
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    clip: float | None = None
    """Largest norm of the gradient; None: not clipped."""
    held_out: Callable[[], float] | None = None
    """Mean loss on text that is not trained on, in evaluation mode, without gradients."""
    say_every: int = 20
    """Steps between two lines of progress; the held-out loss is taken at the same steps."""
