"""Latency history, and when another plan pays: pure, with the clock passed in.

Used by sessions on real workers (`edgeflow.coordinator`) and by the simulator, through one protocol.
"""

from edgeflow.balancer.balancer import Planner, Rebalancer
from edgeflow.balancer.decision import Decision, Thresholds
from edgeflow.balancer.history import Estimate, LatencyHistory
from edgeflow.balancer.observation import Balancer, Observation

__all__ = [
    "Balancer",
    "Decision",
    "Estimate",
    "LatencyHistory",
    "Observation",
    "Planner",
    "Rebalancer",
    "Thresholds",
]
