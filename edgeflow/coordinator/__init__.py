"""The coordinator, as a library: brings plans onto workers and runs requests on them."""

from edgeflow.coordinator.batcher import Batcher
from edgeflow.coordinator.deployment import deploy
from edgeflow.coordinator.session import Session

__all__ = ["Batcher", "Session", "deploy"]
