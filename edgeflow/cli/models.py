"""Read the MODEL argument behind a spinner."""

from __future__ import annotations

from collections.abc import Mapping

from edgeflow.cli import screen
from edgeflow.models import load
from edgeflow.models.load import Subject


def load_subject(
    model: str, *, seed: int = 0, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Subject:
    """Return the model that MODEL names, captured; see `edgeflow.models.load.load_subject`."""
    return load.load_subject(model, seed=seed, input_shapes=input_shapes, progress=screen)
