"""What a balancer sees, and what it may answer: the simulator's side of the loop."""

from edgeflow.balancer.observation import Balancer, Observation

__all__ = ["Balancer", "Observation"]
