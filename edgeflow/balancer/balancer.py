"""The balancer: estimates device speeds from observations, and asks for another plan when that pays."""

from __future__ import annotations

import functools
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeflow.balancer.beliefs import Belief, Beliefs
from edgeflow.balancer.decision import Decision, Thresholds
from edgeflow.balancer.history import LatencyHistory
from edgeflow.balancer.observation import Observation
from edgeflow.balancer.trials import Trials, Worse
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.model import CostModel
from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import CLIENT, WeightSlice
from edgeflow.units import format_seconds

logger = logging.getLogger(__name__)

#: Plans a graph on a cluster under given costs.
Planner = Callable[[ModelGraph, Cluster, CostModel], Plan]

#: A switch counts as recent for this many cool-downs; recent switches stretch the cool-down by at most this
#: factor.
_MEMORY: Final = 24
_MAX_STRETCH: Final = 32

_MAX_DECISIONS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A plan to ask for.

    Attributes:
        plan: The running one.
        cluster: The devices that the new one may use.
        make: Makes it.
    """

    plan: Plan
    cluster: Cluster
    make: Callable[[], Plan]

    def ask(self) -> Plan | InfeasiblePlanError:
        try:
            return self.make()
        except InfeasiblePlanError as error:
            return error


class Rebalancer:
    """Switches plans when the gain is significant, repays the move, and the cool-down has passed.

    Args:
        planner: Called with the graph of the running plan, the cluster of known devices, and costs corrected
            by the current estimates.
        cost: Costs on the whole cluster that observations are compared with; the roofline by default.
        is_exact: Whether these costs are right for devices at their usual speed, not only up to a common
            factor.

    Attributes:
        decisions: The most recent ones, oldest first.
    """

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        *,
        planner: Planner,
        cost: CostModel | None = None,
        is_exact: bool = False,
    ) -> None:
        self.decisions: deque[Decision] = deque(maxlen=_MAX_DECISIONS)
        self.history = LatencyHistory()
        self._thresholds = thresholds or Thresholds()
        self._beliefs = Beliefs(self.history, forget_s=self._thresholds.forget_s, is_exact=is_exact)
        self._planner = planner
        self._cost = cost
        self._plan: Plan | None = None
        self._cluster: Cluster | None = None
        self._now_s = 0.0
        self._switched_s = 0.0
        self._asked: Plan | None = None
        self._switches: deque[float] = deque(maxlen=_MEMORY)
        self._weighed: object = None
        self._held: dict[str, set[WeightSlice]] = {}
        self._trials = Trials()
        #: Whether the plan requested last is a return to the previous one.
        self._is_back = False

    def switched(self, plan: Plan, cluster: Cluster, now_s: float) -> None:
        """Record that ``plan`` runs from ``now_s`` on, on ``cluster``."""
        if plan is self._asked and self._is_back and self._switches:
            self._switches.pop()  # no longer cool-down for it: `Trials` already refuses the rejected plan
        elif plan is self._asked:
            self._switches.append(now_s)
        if plan is self._asked and self._plan is not None and not self._is_back:
            self._trials.begin(
                self._plan,
                _label(plan),
                requests=self.history.requests,
                slowness=self.decisions[-1].slowness,
            )
        else:
            self._trials.end()
        self._is_back = False
        if self._plan is not None and plan.graph.fingerprint != self._plan.graph.fingerprint:
            self._another_graph(self._plan.graph, plan.graph, now_s)
        before = set() if self._plan is None else _names(self._plan)
        self._plan, self._cluster, self._switched_s, self._now_s = plan, cluster, now_s, now_s
        self._asked = self._weighed = None
        for name, slices in _slices(plan).items():
            self._held.setdefault(name, set()).update(slices)
        self._beliefs.adopted(_names(plan) - before, now_s)
        self.history.switched(now_s)

    def _another_graph(self, before: ModelGraph, graph: ModelGraph, now_s: float) -> None:
        """Discard measurements of the old graph's kernels, and held weights that differ in the new graph."""
        devices = () if self._cluster is None else self._cluster.devices
        self._beliefs.another_graph({device.name for device in devices}, now_s)
        self._trials = Trials()
        kept = {name for name, array in graph.weights.items() if _is_same(array, before.weights.get(name))}
        for slices in self._held.values():
            slices.intersection_update({item for item in slices if item.tensor in kept})

    def joined(self, cluster: Cluster) -> None:
        """Replace the set of known devices; the running plan continues."""
        self._cluster = cluster
        self._weighed = None

    def observe(self, observations: Sequence[Observation]) -> None:
        """Add measured durations to the history."""
        self.history.add(observations)
        if observations:
            self._now_s = max(self._now_s, observations[-1].stop_s)
        if self._cluster is not None:
            self._beliefs.update(device.name for device in self._cluster.devices)

    def slowness(self, now_s: float) -> dict[str, float]:
        """Return device -> estimated kernel time / predicted kernel time."""
        devices = () if self._cluster is None else self._cluster.devices
        return {device.name: self._beliefs.of(device.name, now_s).ratio for device in devices}

    def belief(self, device: str, now_s: float) -> Belief:
        """Return the current estimate for one device."""
        return self._beliefs.of(device, now_s)

    @property
    def idle_devices(self) -> tuple[str, ...]:
        """Known devices that the plan does not use: only probes measure their speed."""
        if self._plan is None or self._cluster is None:
            return ()
        used = _names(self._plan)
        return tuple(device.name for device in self._cluster.devices if device.name not in used)

    def cool_down_s(self, now_s: float) -> float:
        """Return the least time between the last switch and the next one."""
        usual_s = self._thresholds.cool_down_s
        recent = sum(time_s > now_s - _MEMORY * usual_s for time_s in self._switches)
        return float(usual_s * min(_MAX_STRETCH, 2 ** max(0, recent - 1)))

    def decide(self, now_s: float) -> Plan | None:
        """Return a better plan under the current estimates if switching pays, else None."""
        question = self.question(now_s)
        return self.answer(question, question.ask(), now_s) if isinstance(question, Question) else question

    def question(self, now_s: float) -> Question | Plan | None:
        """Return what to ask the planner, which takes time: its answer goes to `answer`.

        Returns:
            None if nothing is to be asked now; a plan if the previous one is to come back unasked.
        """
        self._now_s = max(self._now_s, now_s)
        if self._plan is None or self._cluster is None:
            return None
        back = self._trials.judge(self.history.requests, now_s)
        if back is not None and _names(back[0]) <= {device.name for device in self._cluster.devices}:
            return self._go_back(self._plan, *back, now_s)
        if now_s - self._switched_s < self.cool_down_s(now_s):
            return None
        # Planning takes time, and the same estimates give the same plan.
        beliefs = self._in_short(self._cluster, now_s), self._trials.num_refused(now_s)
        if beliefs == self._weighed:
            return None
        self._weighed = beliefs
        return Question(plan=self._plan, cluster=self._cluster, make=self.request(self._cluster))

    def answer(self, question: Question, made: Plan | InfeasiblePlanError, now_s: float) -> Plan | None:
        """Return the plan that the planner made if switching to it pays, else None."""
        self._now_s = max(self._now_s, now_s)
        if question.plan is not self._plan:
            return None  # another plan has taken over meanwhile
        decision, candidate = self._weigh(question.plan, question.cluster, made, now_s)
        self.decisions.append(decision)
        logger.info("balancer.decision", extra={"verdict": decision.verdict, "why": decision.explain()})
        if decision.verdict != "switch":
            return None
        self._asked, self._is_back = candidate, False
        return candidate

    def replan(self, cluster: Cluster) -> Plan:
        """Return a plan for ``cluster`` under the latest estimates, as after the loss of a device."""
        return self.request(cluster)()

    def request(self, cluster: Cluster) -> Callable[[], Plan]:
        """Return a function that makes a plan for ``cluster`` under the latest estimates, on any thread."""
        assert self._plan is not None, "the first plan is the caller's"
        return functools.partial(self._planner, self._plan.graph, cluster, self.cost(cluster))

    def cost(self, cluster: Cluster) -> CostModel:
        """Return costs on ``cluster`` corrected by the latest estimates."""
        return self._beliefs.cost(self._base(cluster), cluster, self._now_s)

    def figure(self, plan: Plan) -> float:
        """Return the value that the plan's objective minimises, under the latest estimates."""
        return self._figure(plan, self._now_s)

    def in_short(self, cluster: Cluster) -> object:
        """Return the latest estimates, rounded: equal values give the same plan."""
        return self._in_short(cluster, self._now_s)

    def _base(self, cluster: Cluster) -> CostModel:
        return self._cost or CostModel(cluster=cluster)

    def _in_short(self, cluster: Cluster, now_s: float) -> object:
        """Return the estimates rounded to a few per cent; while they are equal, weighing again is useless."""
        devices = tuple(
            (device.name, belief.source, round(math.log(belief.ratio) / 0.03), round(belief.error / 0.03))
            for device in cluster.devices
            if (belief := self._beliefs.of(device.name, now_s))
        )
        network = self._beliefs.network(cluster, now_s)
        links = tuple((a, b, link and round(link.bandwidth_bytes_per_s, -5)) for a, b, link in network.links)
        return devices, links

    def _go_back(self, plan: Plan, before: Plan, worse: Worse, now_s: float) -> Plan:
        """Return to the previous plan, because the running one was measured to be worse."""
        decision = Decision(
            time_s=now_s,
            verdict="switch",
            reason=f"back: measured {worse.after_s / worse.before_s:.2f} times as slow as the previous plan",
            before_s=worse.after_s,
            after_s=worse.before_s,
            before=_label(plan),
            after=_label(before),
            slowness={name: round(ratio, 3) for name, ratio in self.slowness(now_s).items()},
        )
        self.decisions.append(decision)
        logger.info("balancer.decision", extra={"verdict": "switch", "why": decision.explain()})
        self._asked, self._is_back = before, True
        return before

    def _weigh(
        self, plan: Plan, cluster: Cluster, made: Plan | InfeasiblePlanError, now_s: float
    ) -> tuple[Decision, Plan | None]:
        limits = self._thresholds
        slowness = {name: round(ratio, 3) for name, ratio in self.slowness(now_s).items()}
        before_s = self._figure(plan, now_s)
        before = _label(plan)
        if isinstance(made, InfeasiblePlanError):
            return Decision(
                time_s=now_s,
                verdict="impossible",
                reason=str(made),
                before_s=before_s,
                after_s=math.inf,
                before=before,
                slowness=slowness,
            ), None
        candidate = made
        after_s = self._figure(candidate, now_s)
        moved_bytes, move_s = self._moving(candidate, cluster)
        # Compare the running plan at its best with the candidate at its worst within the uncertainty.
        doubted = 1 - self._figure(candidate, now_s, limits.doubt) / self._figure(plan, now_s, -limits.doubt)
        earned_s = (before_s - after_s) * self.history.rate_per_s(now_s) * limits.horizon_s
        if candidate.stages == plan.stages and _names(candidate) == _names(plan):
            verdict, reason = "stay", "the same plan is still the best"
        elif not after_s < before_s * (1 - limits.gain):
            verdict, reason = "stay", f"a gain of {1 - after_s / before_s:.0%} is less than {limits.gain:.0%}"
        elif (worse := self._trials.refused(_label(candidate), slowness, now_s)) is not None:
            verdict = "stay"
            reason = (
                f"tried recently: it took {format_seconds(worse.after_s)}, the previous plan "
                f"{format_seconds(worse.before_s)}"
            )
        elif doubted <= 0:
            verdict, reason = "stay", f"a gain of {1 - after_s / before_s:.0%} is within the noise"
        elif plan.objective == "latency" and earned_s < move_s and self.history.rate_per_s(now_s) > 0:
            verdict = "stay"
            reason = f"saves {earned_s:.1f} s in {limits.horizon_s:.0f} s, but moving costs {move_s:.1f} s"
        else:
            verdict, reason = "switch", f"a gain of {1 - after_s / before_s:.0%}"
        decision = Decision(
            time_s=now_s,
            verdict=verdict,
            reason=reason,
            before_s=before_s,
            after_s=after_s,
            before=before,
            after=_label(candidate),
            slowness=slowness,
            moved_bytes=moved_bytes,
            move_s=move_s,
        )
        return decision, candidate

    def _moving(self, plan: Plan, cluster: Cluster) -> tuple[int, float]:
        """Return the bytes of weights that devices lack, and seconds until all have received them.

        All weights come from the source's host.
        """
        total, slowest_s = 0, 0.0
        for name, slices in _slices(plan).items():
            missing = sum(item.num_bytes for item in slices - self._held.get(name, set()))
            total += missing
            seconds = cluster.distance_s(cluster.source_rank, cluster.rank_of(name), missing)
            slowest_s = max(slowest_s, seconds if math.isfinite(seconds) else 0.0)
        return total, slowest_s + self._thresholds.prepare_s

    def _figure(self, plan: Plan, now_s: float, doubt: float = 0.0) -> float:
        """Return the value that the objective minimises, under the estimates at ``now_s``.

        Of several ways, the best one counts; for throughput, all together.
        """
        cost = self._beliefs.cost(self._base(plan.cluster), plan.cluster, now_s, doubt=doubt)
        predictions = [predict_programs(way.programs, cost) for way in plan.ways]
        match plan.objective:
            case "throughput":
                # Each way takes a share of the requests in proportion to its rate.
                return 1 / sum(1 / max(item.period_s, 1e-12) for item in predictions)
            case "energy":
                return min(item.active_energy_j for item in predictions)
        return min(item.latency_s for item in predictions)


def _names(plan: Plan) -> set[str]:
    return {plan.cluster.devices[rank].name for rank in plan.devices}


def _is_same(array: Array, before: Array | None) -> bool:
    return before is not None and (array is before or np.array_equal(array, before))


def _label(plan: Plan) -> str:
    return f"{plan.chosen or plan.strategy} on {', '.join(sorted(_names(plan)))}"


def _slices(plan: Plan) -> dict[str, set[WeightSlice]]:
    """Return device -> slices of weights that it needs."""
    found: dict[str, set[WeightSlice]] = {}
    for way in plan.ways:
        for rank, program in way.programs.items():
            if rank != CLIENT:
                found.setdefault(way.cluster.devices[rank].name, set()).update(program.weights)
    return found
