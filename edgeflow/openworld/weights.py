"""Trained models as small files: weights, settings of the training, and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from edgeflow.openworld import checkpoint
from edgeflow.openworld.learner import Learner
from edgeflow.openworld.metrics import Scores
from edgeflow.openworld.model import build
from edgeflow.openworld.settings import TrainSettings
from edgeflow.openworld.splits import OpenWorldSplit
from edgeflow.openworld.train import Trained

#: A model that comes with the package: see `shipped`.
SHIPPED = Path(__file__).with_name("shipped.safetensors")


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Metadata of a file of weights.

    Attributes:
        command: The command line that wrote it.
        shape: ``(C, H, W)`` of the pictures.
        class_names: Known ones first; one for each prototype.
        order: The data set's own numbers of its classes, known ones first.
    """

    settings: TrainSettings
    command: str
    shape: tuple[int, int, int]
    num_known: int
    class_names: tuple[str, ...]
    order: tuple[int, ...]
    transductive: Scores
    inductive: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A trained learner in evaluation mode, and its metadata."""

    learner: Learner
    about: About


def save_model(path: Path, trained: Trained, *, command: str = "") -> None:
    """Write the classifier and its metadata, without the projector, which only training needs."""
    split: OpenWorldSplit = trained.material.split
    tensors = {
        name: tensor
        for name, tensor in trained.learner.state_dict().items()
        if not name.startswith("projector.")
    }
    channels, height, width = split.images_NCHW.shape[1:]
    about = About(
        settings=trained.result.settings,
        command=command,
        shape=(channels, height, width),
        num_known=split.num_known,
        class_names=_prototype_names(trained),
        order=split.order,
        transductive=trained.result.transductive,
        inductive=trained.result.inductive,
    )
    checkpoint.write_atomically(path, tensors, {"model": msgspec.to_builtins(about)})


def _prototype_names(trained: Trained) -> tuple[str, ...]:
    """Return a name for each prototype; novel ones are numbered if their number was estimated."""
    names = trained.material.split.class_names
    num_novel = trained.result.settings.num_novel
    if num_novel is None:
        return names
    known = names[: trained.material.split.num_known]
    return (*known, *(f"novel {number}" for number in range(1, num_novel + 1)))


def load_model(path: Path) -> Loaded:
    """Read a file that `save_model` wrote.

    Raises:
        ConfigError: If it is not such a file, or its weights do not fit its model.
    """
    tensors, texts = checkpoint.read(path)
    about: Any = msgspec.convert(texts["model"], About, strict=False)
    model = build(
        about.settings.size,
        num_known=about.num_known,
        num_novel=len(about.class_names) - about.num_known,
        image_size=about.shape[1],
        in_channels=about.shape[0],
    )
    learner = Learner(model, mean=tensors["mean"], std=tensors["std"], seed=0)
    missing: dict[str, Tensor] = checkpoint.pack("projector", learner.projector.state_dict())
    checkpoint.load_weights(learner, {**missing, **tensors}, where=path)
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner.eval()
    return Loaded(learner=learner, about=about)


def shipped() -> Loaded:
    """Return the model that comes with the package."""
    return load_model(SHIPPED)
