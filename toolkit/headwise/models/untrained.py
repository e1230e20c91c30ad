"""The model of a recipe as training begins."""

from __future__ import annotations

from dataclasses import replace

import torch

from headwise.contracts import Recipe
from headwise.device import deterministic
from headwise.models.model_store import LoadedModel, misfit, tensors_of
from headwise.settings import RecipeSettings
from headwise.text.vocabulary import Vocabulary


def built(recipe: Recipe, settings: RecipeSettings, vocabulary: Vocabulary, seed: int) -> torch.nn.Module:
    """Build the model of a recipe with the weights that training starts from; seeds torch's random numbers.

    The same seed, settings and vocabulary give the same weights.
    """
    with deterministic():
        torch.manual_seed(seed)
        return recipe.build(settings, vocabulary)


def untrained(loaded: LoadedModel, seed: int) -> LoadedModel | None:
    """Return a trained model as it was before training, or None where its recipe cannot build it anew.

    Args:
        loaded: the trained model.
        seed: of its run.
    """
    device = next(loaded.model.parameters()).device
    try:
        with torch.random.fork_rng(devices=[]):
            model = built(loaded.recipe, loaded.settings, loaded.vocabulary, seed)
    except Exception:  # noqa: BLE001  # a stranger's recipe may raise anything; the null is left out then
        return None
    if misfit(model, tensors_of(loaded.model)):
        return None
    return replace(loaded, model=model.to(device).eval())
