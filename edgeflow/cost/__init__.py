"""HOW LONG: costs of kernels and transfers, and the predicted timeline of a plan."""

from edgeflow.cost.energy import DeviceEnergy
from edgeflow.cost.model import CostModel, Measurement
from edgeflow.cost.runs import MeasuredRuns, Span
from edgeflow.cost.timeline import Prediction, predict, predict_programs
from edgeflow.cost.work import Work, work_of

__all__ = [
    "CostModel",
    "DeviceEnergy",
    "MeasuredRuns",
    "Measurement",
    "Prediction",
    "Span",
    "Work",
    "predict",
    "predict_programs",
    "work_of",
]
