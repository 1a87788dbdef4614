"""A plain balancer to compare others with: believe what devices were seen to do, re-plan if that pays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import ANY_FAMILY, CostModel
from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.simulator.observation import Observation

logger = logging.getLogger(__name__)

#: Makes a plan under given costs.
Planner = Callable[[Cluster, CostModel], Plan]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """When to re-plan.

    Attributes:
        gain: Least gain, as a share of the present plan's figure under the costs that are believed now.
        cool_down_s: After a switch, at least so long until the next one.
        forget_s: A device that was not seen to compute for so long is taken to be at its usual speed again:
            a plan that avoids it learns nothing about it.
        weight: Of a new observation in the running mean, 0 to 1.
    """

    gain: float = 0.1
    cool_down_s: float = 5.0
    forget_s: float = 30.0
    weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.gain < 1:
            raise ConfigError(f"the gain that a switch needs must be in [0, 1), got {self.gain:g}")
        if not 0 < self.weight <= 1:
            raise ConfigError(f"the weight of an observation must be in (0, 1], got {self.weight:g}")


class MeasuredSpeeds:
    """Re-plans from measured speeds when the predicted gain is large enough, with a pause after each switch.

    The slowness of a device is the running mean of how much longer its kernels take than the cost model
    says. Networks are taken as the cost model has them: a transfer's duration holds its queues, which say
    nothing of the network.

    Args:
        planner: Asked with what is known to be there and what is believed of it; by default the planner, with
            the strategy, the objective and the deadline of the plan that runs.
        cost: Costs on the whole cluster, as believed at the start; the roofline by default.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        *,
        planner: Planner | None = None,
        cost: CostModel | None = None,
    ) -> None:
        self._thresholds = thresholds or Thresholds()
        self._planner = planner
        self._cost = cost
        self._plan: Plan | None = None
        self._cluster: Cluster | None = None
        self._switched_s = 0.0
        self._slowness: dict[str, float] = {}
        self._seen_s: dict[str, float] = {}
        self._weighed: dict[str, float] | None = None

    def switched(self, plan: Plan, cluster: Cluster, now_s: float) -> None:
        """Take note of the plan that runs."""
        self._plan, self._cluster, self._switched_s = plan, cluster, now_s
        self._weighed = None

    def observe(self, observations: Sequence[Observation]) -> None:
        """Update the running means."""
        weight = self._thresholds.weight
        for item in observations:
            if item.kind == "compute" and item.expected_s > 0:
                ratio = item.seconds / item.expected_s
                before = self._slowness.get(item.device, ratio)
                self._slowness[item.device] = before + weight * (ratio - before)
                self._seen_s[item.device] = item.stop_s

    def slowness(self, now_s: float) -> dict[str, float]:
        """Device -> how many times longer its kernels are believed to take than the cost model says."""
        recent = now_s - self._thresholds.forget_s
        return {name: value for name, value in self._slowness.items() if self._seen_s[name] >= recent}

    def decide(self, now_s: float) -> Plan | None:
        """Return a better plan under what is believed now, if there is one that pays."""
        if self._plan is None or self._cluster is None:
            return None
        if now_s - self._switched_s < self._thresholds.cool_down_s:
            return None
        # Planning takes time, and the same beliefs bring the same plan.
        beliefs = {name: round(value, 2) for name, value in self.slowness(now_s).items()}
        if beliefs == self._weighed:
            return None
        self._weighed = beliefs
        candidate = self._best(self._cluster, now_s)
        if candidate is None:
            return None
        mine, theirs = (self._figure(plan, now_s) for plan in (self._plan, candidate))
        if not theirs < mine * (1 - self._thresholds.gain):
            return None
        logger.info("policy.switch", extra={"now_s": now_s, "before_s": mine, "after_s": theirs})
        return candidate

    def replan(self, cluster: Cluster) -> Plan:
        """Return a plan for what is there, under what was last believed: for when a device was lost."""
        return self._make(cluster, max(self._seen_s.values(), default=0.0))

    def _best(self, cluster: Cluster, now_s: float) -> Plan | None:
        try:
            return self._make(cluster, now_s)
        except InfeasiblePlanError:
            return None

    def _make(self, cluster: Cluster, now_s: float) -> Plan:
        cost = self._believed(cluster, now_s)
        if self._planner is not None:
            return self._planner(cluster, cost)
        running = self._plan
        assert running is not None, "the first plan is the caller's"
        return make_plan(
            running.graph,
            cluster,
            running.strategy,
            running.objective,
            deadline_s=running.deadline_s,
            cost=cost,
        )

    def _believed(self, cluster: Cluster, now_s: float) -> CostModel:
        cost = self._cost or CostModel(cluster=cluster)
        names = {device.name for device in cluster.devices}
        corrections = {name: dict(item) for name, item in cost.corrections.items() if name in names}
        for name, factor in self.slowness(now_s).items():
            if name in names:
                mine = corrections.get(name) or {ANY_FAMILY: 1.0}
                corrections[name] = {family: value * factor for family, value in mine.items()}
        return msgspec.structs.replace(cost, cluster=cluster, corrections=corrections)

    def _figure(self, plan: Plan, now_s: float) -> float:
        """What the plan is to make small, under what is believed now; of several ways, the best one's."""
        cost = self._believed(plan.cluster, now_s)
        predictions = [predict_programs(way.programs, cost) for way in plan.ways]
        match plan.objective:
            case "throughput":
                # Shares of requests in proportion to how many each way can answer.
                return 1 / sum(1 / max(item.period_s, 1e-12) for item in predictions)
            case "energy":
                return min(item.active_energy_j for item in predictions)
        return min(item.latency_s for item in predictions)
