"""One simulation: requests arrive, devices are lost and join, plans replace each other."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from heapq import heappush

import msgspec

from edgeflow.balancer.history import PROBES
from edgeflow.balancer.observation import Balancer, Observation
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost.energy import modelled
from edgeflow.cost.model import CostModel
from edgeflow.cost.timeline import predict_programs
from edgeflow.errors import InfeasiblePlanError, InvalidPlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.verify import plan_memory_bytes
from edgeflow.simulator.arrivals import Arrivals, ClosedLoop
from edgeflow.simulator.blocks import script_of
from edgeflow.simulator.clock import Clock
from edgeflow.simulator.conditions import Conditions
from edgeflow.simulator.fleet import Fleet
from edgeflow.simulator.machines import Machines
from edgeflow.simulator.onlooker import Onlooker
from edgeflow.simulator.profile import TraceEndedError
from edgeflow.simulator.report import RequestRecord, SimulationReport, Switch, percentiles
from edgeflow.simulator.scenario import Change, Scenario, cluster_of
from edgeflow.telemetry import TraceEvent

#: Makes a plan for the devices that are present.
Replan = Callable[[Cluster], Plan]


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """Delays of detection and reaction. A simulation's results depend on them: state them with the results.

    Attributes:
        detection_s: From a device's loss or joining until the coordinator knows.
        switch_s: From the choice of a plan until it takes requests: weights travel, workers prepare. Ways
            that still work continue meanwhile.
        interval_s: Between two decisions of the balancer.
        probe_every_s: Between two probes of a device that the plan does not use; 0 disables probes.
    """

    detection_s: float = 1.0
    switch_s: float = 0.5
    interval_s: float = 1.0
    probe_every_s: float = 3.0


class Run:
    """One simulation; `run` may be called once."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        cost: CostModel,
        scenario: Scenario,
        *,
        replan: Replan,
        reaction: Reaction,
        balancer: Balancer | None,
        max_in_flight: int,
        with_events: bool,
    ) -> None:
        self._clock = Clock()
        self._cluster = cluster
        self._cost = cost
        self._scenario = scenario
        self._conditions = Conditions(scenario, cluster)
        self._replan = replan
        self._reaction = reaction
        self._balancer = balancer
        self._max_in_flight = max_in_flight
        self._observations: list[Observation] | None = None if balancer is None else []
        self._events: list[TraceEvent] | None = [] if with_events else None
        self._onlooker = Onlooker(self._conditions, observations=self._observations, events=self._events)
        is_watched = balancer is not None or with_events
        self._machines = Machines(
            self._clock, self._conditions, self._answered, onlooker=self._onlooker if is_watched else None
        )
        self._probed_s = 0.0
        self._present = frozenset(device.name for device in cluster.devices) - scenario.late
        #: The present devices as far as the coordinator knows.
        self._known = self._present
        self._there_s = dict.fromkeys(cluster.ranks, 0.0)
        self._since_s = {rank: 0.0 for rank in cluster.ranks if self._is_present(rank)}
        self._plan = plan
        self._num_plans = 0
        self._fleet: Fleet | None = None
        self._fleets: list[Fleet] = []
        self._fleet_of: dict[int, Fleet] = {}
        #: Plans in preparation.
        self._pending: list[Plan] = []
        #: Requests that no way can take at present.
        self._homeless: list[int] = []
        self._switches: list[Switch] = []
        self._memory: dict[str, int] = {}
        self._arrival_s = array("d")
        self._answer_s = array("d")
        self._place: list[tuple[int, int]] = []
        self._attempts = array("l")
        self._replayed: set[int] = set()
        self._num_answered = 0
        self._loop = False
        self._requests = 0
        self._end_s = 0.0
        self._done = self._clock.event()

    def run(self, requests: int, arrivals: Arrivals) -> SimulationReport:
        self._requests = requests
        self._loop = isinstance(arrivals, ClosedLoop)
        self._adopt(self._plan, "start")
        for change in self._scenario.in_order:
            self._clock.call(change.time_s, self._change, change)
        if self._balancer is not None:
            if self._reaction.probe_every_s > 0:
                # The baseline that later probes are compared with, as in a session.
                for _ in range(PROBES):
                    self._probe(self._known)
            self._clock.call(self._reaction.interval_s, self._ask)
        if isinstance(arrivals, ClosedLoop):
            for _ in range(min(arrivals.in_flight, requests)):
                self._arrive()
        else:
            self._arrive_next(arrivals.times(requests))
        self._run_clock()
        return self._report()

    def _run_clock(self) -> None:
        try:
            self._clock.run(until=self._done)
        except TraceEndedError as error:
            raise TraceEndedError(error.trace, error.end_s, reached=self._progress()) from None
        except RuntimeError:  # SimPy: no events are left
            if self._num_answered == self._requests:
                raise
            if not self._scenario.changes:
                raise InvalidPlanError(
                    f"{self._requests - self._num_answered} of {self._requests} requests wait for frames "
                    "that are never sent"
                ) from None
        self._conditions.check_end(self._clock.now, self._progress())
        with suppress(TraceEndedError):  # work that no answer waits for
            self._end_s = self._clock.finish()

    def _progress(self) -> str:
        return f"{self._num_answered} of {self._requests} requests were answered at {self._clock.now:g} s"

    # Requests.

    def _arrive_next(self, times_s: Iterator[float]) -> None:
        time_s = next(times_s, None)
        if time_s is not None:
            self._clock.call(time_s, self._arrive_in_turn, times_s)

    def _arrive_in_turn(self, times_s: Iterator[float]) -> None:
        self._arrive()
        self._arrive_next(times_s)

    def _arrive(self) -> None:
        number = len(self._arrival_s)
        self._arrival_s.append(self._clock.now)
        self._answer_s.append(math.nan)
        self._attempts.append(1)
        self._place.append((0, 0))
        self._give(number)

    def _give(self, number: int) -> None:
        """Assign a request to the current plan if any of its ways works; else keep it until one does."""
        fleet = self._fleet
        if fleet is None or not fleet.is_open:
            heappush(self._homeless, number)
            return
        self._fleet_of[number] = fleet
        fleet.assign(number)

    def _answered(self, number: int) -> None:
        assert math.isnan(self._answer_s[number]), f"request {number} is answered twice"
        self._answer_s[number] = self._clock.now
        self._num_answered += 1
        fleet = self._fleet_of.pop(number)
        self._place[number] = (fleet.number, fleet.way_of(number))
        fleet.answered(number)
        if fleet is not self._fleet and fleet.is_idle:
            self._fleets.remove(fleet)
            fleet.remove()
        if self._num_answered == self._requests:
            self._done.succeed()
        elif self._loop and len(self._arrival_s) < self._requests:
            self._arrive()

    # Plans.

    def _adopt(self, plan: Plan, reason: str) -> None:
        """Let a plan take requests from now on; requests in flight end on the previous plan."""
        number = self._num_plans
        self._num_plans += 1
        ranks = [self._cluster.rank_of(device.name) for device in plan.cluster.devices]
        believed = costs_on(self._cost, plan.cluster)
        ways = []
        for way in plan.ways:
            predicted = predict_programs(way.programs, believed)
            script = script_of(
                way.programs,
                ranks,
                self._cost,
                self._conditions,
                latency_s=predicted.latency_s,
                period_s=predicted.period_s,
            )
            ways.append(self._machines.install(script))
        for rank, num_bytes in plan_memory_bytes(plan.decision).items():
            name = plan.cluster.devices[rank].name
            self._memory[name] = max(self._memory.get(name, 0), num_bytes)
        before = self._fleet
        self._plan = plan
        self._fleet = Fleet(number, ways, self._machines, max_in_flight=self._max_in_flight)
        self._fleets.append(self._fleet)
        self._switches.append(
            Switch(
                time_s=self._clock.now,
                reason=reason,
                strategy=plan.strategy,
                chosen=plan.chosen,
                predicted_latency_s=plan.predicted_latency_s,
            )
        )
        if self._balancer is not None:
            self._balancer.switched(plan, self._known_cluster(), self._clock.now)
        waiting = sorted(self._homeless)
        self._homeless = []
        if before is not None:
            waiting = sorted([*waiting, *before.retire()])
            if before.is_idle:
                self._fleets.remove(before)
                before.remove()
        for request in waiting:
            self._give(request)

    def _switch(self, plan: Plan, reason: str) -> None:
        """Prepare a plan and adopt it after ``switch_s``."""
        self._pending.append(plan)

        def ready(_: object) -> None:
            self._pending.remove(plan)
            if _names(plan) <= self._known:  # else a loss was noticed meanwhile, and another plan follows it
                self._adopt(plan, reason)

        self._clock.call(self._clock.now + self._reaction.switch_s, ready)

    def _make_plan(self, reason: str) -> Plan | None:
        try:
            return self._replan(self._known_cluster())
        except InfeasiblePlanError as error:
            self._switches.append(Switch(time_s=self._clock.now, reason=reason, problem=str(error)))
            return None

    def _known_cluster(self) -> Cluster:
        return cluster_of(self._cluster, self._known)

    def _ask(self, _: object) -> None:
        """Pass observations to the balancer, and prepare the plan that it asks for."""
        assert self._balancer is not None and self._observations is not None
        every_s = self._reaction.probe_every_s
        if every_s > 0 and self._clock.now >= self._probed_s + every_s:
            self._probe(self._known - _names(self._plan))
        if self._observations:
            self._balancer.observe(tuple(self._observations))
            self._observations.clear()
        plan = None if self._pending else self._balancer.decide(self._clock.now)
        if plan is not None:
            self._switch(plan, "balancer")
        if self._clock.peek() < math.inf:  # else no event is left, and this would run for ever
            self._clock.call(self._clock.now + self._reaction.interval_s, self._ask)

    def _probe(self, devices: Collection[str]) -> None:
        """Probe devices for the balancer; a lost device does not answer."""
        self._probed_s = self._clock.now
        for rank, device in enumerate(self._cluster.devices):
            if device.name in devices and self._is_present(rank):
                self._onlooker.probe(rank, self._clock.now)

    # Devices that are lost or join.

    def _is_present(self, rank: int) -> bool:
        return self._cluster.devices[rank].name in self._present

    def _change(self, change: Change) -> None:
        rank = self._cluster.rank_of(change.device)
        notice_s = self._clock.now + self._reaction.detection_s
        if change.kind == "lose":
            self._present -= {change.device}
            self._there_s[rank] += self._clock.now - self._since_s.pop(rank)
            self._machines.lose(rank)
            self._clock.call(notice_s, self._notice_loss, change.device)
        elif change.kind == "join":
            self._present |= {change.device}
            self._since_s[rank] = self._clock.now
            self._machines.join(rank)
            self._clock.call(notice_s, self._notice_join, change.device)

    def _notice_loss(self, device: str) -> None:
        self._known -= {device}
        begun: list[int] = []
        waiting: list[int] = []
        for fleet in list(self._fleets):
            some_begun, some_waiting = fleet.close_lost()
            begun += some_begun
            waiting += some_waiting
            if fleet is not self._fleet and fleet.is_idle:
                self._fleets.remove(fleet)
                fleet.remove()
        self._replayed.update(begun)
        for number in begun:
            self._attempts[number] += 1
        if any(device in _names(plan) for plan in (self._plan, *self._pending)):
            reason = f"lost {device}"
            plan = self._make_plan(reason)
            if plan is not None:
                self._switch(plan, reason)
        for number in sorted([*begun, *waiting]):
            self._give(number)

    def _notice_join(self, device: str) -> None:
        if device not in self._present:  # lost again
            return
        self._known |= {device}
        reason = f"joined {device}"
        plan = self._make_plan(reason)
        is_down = self._fleet is None or not self._fleet.is_open
        if plan is not None and (is_down or _figure(plan) < _figure(self._plan)):
            self._switch(plan, reason)

    # The report.

    def _report(self) -> SimulationReport:
        latencies = tuple(
            answer - arrival
            for answer, arrival in zip(self._answer_s, self._arrival_s, strict=True)
            if not math.isnan(answer)
        )
        if not latencies:
            problem = next((item.problem for item in reversed(self._switches) if item.problem), "")
            raise InfeasiblePlanError(f"no request was ever answered: {problem}", constraint="devices")
        first_s = self._arrival_s[0]
        last_s = max(answer for answer in self._answer_s if not math.isnan(answer))
        makespan_s = last_s - first_s
        span_s = max(self._end_s, last_s) - first_s  # some frames may arrive after the last answer
        figures = percentiles(latencies)
        busy, computed, energy_j = self._devices(last_s, first_s)
        resources = {**busy, **{name: turns.busy_s for name, turns in sorted(self._machines.turns.items())}}
        return SimulationReport(
            latency_s=math.fsum(latencies) / len(latencies),
            p95_latency_s=figures[95],
            percentiles_s=figures,
            throughput_per_s=len(latencies) / makespan_s if makespan_s else math.inf,
            makespan_s=makespan_s,
            energy_j=energy_j,
            transferred_bytes=sum(self._machines.sent),
            peak_memory_bytes=dict(sorted(self._memory.items())),
            busy_share=_shares(computed, span_s),
            resource_busy_share=_shares(resources, span_s),
            latencies_s=latencies,
            num_replayed=len(self._replayed),
            num_lost=self._requests - self._num_answered,
            records=self._records(),
            switches=tuple(self._switches),
            device_names=tuple(device.name for device in self._cluster.devices),
            events=tuple(self._events or ()),
        )

    def _devices(self, last_s: float, first_s: float) -> tuple[dict[str, float], dict[str, float], float]:
        """Return processor seconds by resource, kernel seconds by device, and the total energy in joules."""
        busy: dict[str, float] = {}
        computed: dict[str, float] = {}
        energy_j = 0.0
        for rank, device in enumerate(self._cluster.devices):
            mine = [self._machines.processors[rank]]
            mine += [item for item in self._machines.retired if item.rank == rank]
            busy_s = sum(item.busy_s for item in mine)
            there_s = self._there_s[rank] + max(0.0, last_s - self._since_s.get(rank, last_s))
            energy_j += modelled(
                device,
                elapsed_s=min(there_s, last_s - first_s),
                busy_s=busy_s,
                flops=sum(item.flops for item in mine),
                sent_bytes=self._machines.sent[rank],
                received_bytes=self._machines.received[rank],
            ).total_j
            if device.name in self._memory:
                busy[f"processor:{device.name}"] = busy_s
                computed[device.name] = sum(item.compute_s for item in mine)
        return busy, computed, energy_j

    def _records(self) -> tuple[RequestRecord, ...]:
        return tuple(
            RequestRecord(
                number=number,
                arrival_s=arrival_s,
                answer_s=self._answer_s[number],
                plan=self._place[number][0],
                way=self._place[number][1],
                attempts=self._attempts[number],
            )
            for number, arrival_s in enumerate(self._arrival_s)
        )


def _shares(seconds: dict[str, float], makespan_s: float) -> dict[str, float]:
    return {name: value / makespan_s if makespan_s else 0.0 for name, value in seconds.items()}


def costs_on(cost: CostModel, cluster: Cluster) -> CostModel:
    """Return ``cost`` on a part of its cluster, without the corrections of absent devices."""
    names = {device.name for device in cluster.devices}
    known = {name: factors for name, factors in cost.corrections.items() if name in names}
    return msgspec.structs.replace(cost, cluster=cluster, corrections=known)


def _names(plan: Plan) -> set[str]:
    """Return the names of the devices that a plan uses."""
    return {plan.cluster.devices[rank].name for rank in plan.devices}


def _figure(plan: Plan) -> float:
    """Return the predicted value that the plan's objective minimises."""
    match plan.objective:
        case "throughput":
            return plan.predicted_period_s
        case "energy":
            return plan.predicted_energy_j
    return plan.predicted_latency_s
