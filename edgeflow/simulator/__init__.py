"""Run plans on a virtual clock: clusters that do not exist, with changing speeds and lost devices."""

from edgeflow.balancer.observation import Balancer, Observation
from edgeflow.simulator.arrivals import Arrivals, ClosedLoop, Every, Poisson, Recorded, parse_arrivals
from edgeflow.simulator.policy import MeasuredSpeeds, Thresholds
from edgeflow.simulator.profile import TraceEndedError
from edgeflow.simulator.report import RequestRecord, SimulationReport, Switch
from edgeflow.simulator.run import Reaction, Replan
from edgeflow.simulator.scenario import Change, Scenario, Trace
from edgeflow.simulator.scenario_file import load_scenario
from edgeflow.simulator.simulate import MAX_IN_FLIGHT, simulate

__all__ = [
    "MAX_IN_FLIGHT",
    "Arrivals",
    "Balancer",
    "Change",
    "ClosedLoop",
    "Every",
    "MeasuredSpeeds",
    "Observation",
    "Poisson",
    "Reaction",
    "Recorded",
    "Replan",
    "RequestRecord",
    "Scenario",
    "SimulationReport",
    "Switch",
    "Thresholds",
    "Trace",
    "TraceEndedError",
    "load_scenario",
    "parse_arrivals",
    "simulate",
]
