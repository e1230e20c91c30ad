"""The model of a run, trained or brought, opened again to be observed."""

from __future__ import annotations

import torch

from headwise.errors import RunFolderError
from headwise.models.brought import OpenedModel, open_brought, untrained_brought
from headwise.models.model_store import LoadedModel, load_model
from headwise.models.untrained import untrained
from headwise.registry import Registry
from headwise.run_folder import RunFolder
from headwise.settings import ObserveSettings, validated

AnyModel = LoadedModel | OpenedModel


def open_model(folder: RunFolder, registry: Registry, device: torch.device) -> AnyModel:
    """Open the model that a run is about, on this device, in evaluation mode.

    Raises:
        RunFolderError: the run has no model yet, or it is damaged.
        ModelError: a model that was brought cannot be loaded, or is no longer what it was.
    """
    steps = folder.manifest["steps"]
    if "model" not in steps:
        return load_model(folder, registry, device)
    settings = validated(ObserveSettings, folder.manifest["settings"], "run")
    return open_brought(settings, steps["model"], steps["tokens"]["context"], registry, device)


def trained_model(folder: RunFolder, registry: Registry, device: torch.device, purpose: str) -> LoadedModel:
    """Open the model of a run that headwise trained; `purpose` is what only such a model can be used for.

    Raises:
        RunFolderError: the model was brought.
    """
    opened = open_model(folder, registry, device) if "model" not in folder.manifest["steps"] else None
    if not isinstance(opened, LoadedModel):
        message = f"{folder.path} observes a model that was brought, so {purpose}"
        raise RunFolderError(message)
    return opened


def before_training(model: AnyModel, seed: int) -> AnyModel | None:
    """Return a model of the same kind as training begins with, or None where it cannot be made."""
    return untrained(model, seed) if isinstance(model, LoadedModel) else untrained_brought(model, seed)


def weights_sha256(folder: RunFolder) -> str:
    """Return what tells the weights of this run's model from those of any other."""
    step = folder.manifest["steps"].get("model")
    if step is None:
        return str(folder.manifest["files"]["model.safetensors"]["sha256"])
    return "-".join(step["weights"].values())
