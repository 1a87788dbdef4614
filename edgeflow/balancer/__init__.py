"""Keep a latency history and decide when to switch plans: pure, with the time passed in.

`Rebalancer` is the one implementation: sessions on real workers (`edgeflow.coordinator`) use it directly. The
simulator accepts anything that satisfies the `Balancer` protocol.
"""

from edgeflow.balancer.balancer import Planner, Question, Rebalancer
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
    "Question",
    "Rebalancer",
    "Thresholds",
]
