"""The coordinator, as a library: brings plans onto workers and runs requests on them."""

from edgeflow.runtime.coordinator.batcher import Batcher
from edgeflow.runtime.coordinator.deployment import deploy
from edgeflow.runtime.coordinator.session import Session

__all__ = ["Batcher", "Session", "deploy"]
