"""An open-world semi-supervised image classifier: edgeflow's own reference model and its training."""

from edgeflow.openworld.config import SIZES, OpenWorldConfig, StageConfig, config_for
from edgeflow.openworld.model import OpenWorldClassifier, build

__all__ = ["SIZES", "OpenWorldClassifier", "OpenWorldConfig", "StageConfig", "build", "config_for"]
