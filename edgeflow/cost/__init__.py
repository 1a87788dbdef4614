"""HOW LONG: costs of kernels and transfers, and the predicted timeline of a plan."""

from edgeflow.cost.model import CostModel, Measurement
from edgeflow.cost.timeline import Prediction, predict, predict_programs

__all__ = ["CostModel", "Measurement", "Prediction", "predict", "predict_programs"]
