"""Plans on a virtual clock: clusters that one does not own."""

from edgeflow.simulator.simulate import SimulationReport, simulate

__all__ = ["SimulationReport", "simulate"]
