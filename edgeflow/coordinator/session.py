"""A deployed plan that answers requests, and goes on answering them while the plan changes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgeflow.balancer import Decision, Rebalancer
from edgeflow.closing import Closing
from edgeflow.cluster.device import Device
from edgeflow.coordinator import ledger as led
from edgeflow.coordinator.answers import MAX_WAITING, answer_of, default_in_flight, in_order
from edgeflow.coordinator.client_rank import MAX_IN_FLIGHT, ClientRank
from edgeflow.coordinator.control import ControlFactory
from edgeflow.coordinator.epoch import Epoch, Shared
from edgeflow.coordinator.keeper import Keeper
from edgeflow.coordinator.launcher import Launcher
from edgeflow.coordinator.members import Watch
from edgeflow.coordinator.observe import cost_on
from edgeflow.coordinator.opening import Openings
from edgeflow.coordinator.pending import Pending
from edgeflow.coordinator.rollout import CONNECT_TIMEOUT_S, ContentTable, RouteChoice
from edgeflow.cost import CostModel, predict
from edgeflow.errors import ClusterError, ConfigError, EdgeflowError, PeerLostError, StalePlanError
from edgeflow.graph.ir import Array
from edgeflow.graph.structure import check_same_inputs, flatten_inputs
from edgeflow.incident import save_incident
from edgeflow.net.transport.base import Transport
from edgeflow.plan import Decision as Way
from edgeflow.plan import Plan
from edgeflow.telemetry.status import EpochStatus, Status
from edgeflow.telemetry.trace import TraceEvent
from edgeflow.threads import SYSTEM, Crew, Threads

logger = logging.getLogger(__name__)

#: Latencies and decisions that `Session.status` reports.
_REMEMBERED: Final = 240
_SHOWN: Final = 12

#: How often deadlines are checked while any request is pending.
_TICK_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How a session goes on when workers fail or change their speed.

    Attributes:
        is_balancing: Whether to re-plan when speeds change, not only when workers go and come.
        status_file: Where to write the session's status, for ``edgeflow top``.
    """

    balancer: Rebalancer
    watch: Watch
    is_balancing: bool = False
    status_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How a session reaches its workers.

    Attributes:
        transport: Carries frames.
        choose_routes: Says where the frames of each rank go.
        control: Makes what calls a worker.
        threads: Where its time and its threads come from.
    """

    transport: Transport
    choose_routes: RouteChoice
    control: ControlFactory
    threads: Threads = SYSTEM


class Session(Closing):
    """A plan on its workers; made by `edgeflow.deploy`. Use it in a ``with`` statement, or close it.

    Its methods may be called from several threads.

    Attributes:
        plan: The plan that takes requests now.
        timeout_s: How long a request may take once it is begun, replays included.

    Args:
        launcher: Gives the workers' addresses; closed with the session.
        network: How the workers are reached; its transport is closed with the session.
        max_waiting: Requests that may wait for a worker.
        cost: Costs on the plan's cluster as known when it was made; the roofline by default.
        care: How to go on when workers fail or change their speed; None: not at all.
    """

    def __init__(
        self,
        plan: Plan,
        launcher: Launcher,
        *,
        network: Network,
        timeout_s: float,
        max_waiting: int = MAX_WAITING,
        cost: CostModel | None = None,
        care: Care | None = None,
    ) -> None:
        self.plan = plan
        self.timeout_s = timeout_s
        self._launcher = launcher
        self._addresses = dict(launcher.addresses)
        self._transport = network.transport
        self._threads = network.threads
        self._lock = self._threads.lock()
        #: One roll-out at a time.
        self._rolling = self._threads.lock()
        self._epochs: dict[int, Epoch] = {}
        self._client = ClientRank(self, lock=self._lock, threads=self._threads, tick=self._tick)
        self._requests = Pending(
            led.Ledger(timeout_s=timeout_s, max_in_flight=MAX_IN_FLIGHT, max_waiting=max_waiting),
            self._epochs,
            self._client,
            lock=self._lock,
            threads=self._threads,
            on_drained=self._close_drained,
        )
        self._keeper: Keeper | None = None
        self._cost = cost
        self._care = care
        self._num_answered = 0
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._is_closed = False
        self._next_tick_s = 0.0
        self._closing = Crew(self._threads, "edgeflow-close")
        shared = Shared(
            lock=self._lock,
            client=self._client,
            transport=network.transport,
            choose_routes=network.choose_routes,
            control=network.control,
            threads=self._threads,
        )
        self._openings = Openings(self._addresses, shared, timeout_s=timeout_s)
        #: Of the graph that takes requests now.
        self._contents = ContentTable(plan.graph)
        self._started_s = self._threads.now()
        try:
            self.roll_out(plan, reason="deployed")
        except BaseException:
            self._free()
            raise
        if care is not None:
            self._keeper = Keeper(
                self,
                plan.cluster,
                self._addresses,
                balancer=care.balancer,
                cost=cost,
                control=network.control,
                watch=care.watch,
                is_balancing=care.is_balancing,
                status_file=care.status_file,
                launcher=launcher,
                threads=self._threads,
            )
            self._keeper.start()

    # For users.

    def run(self, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """Answer one request: what the module would return for these arguments.

        Args:
            timeout_s: Time for this request, waiting included; the session's, from when it is begun, if None.

        Raises:
            ConfigError: If the arguments do not fit the graph.
            DeadlineExceededError: If there is no answer in time.
            OverloadedError: If too many requests wait already.
            WorkerUnreachableError: If a worker is lost, and nothing takes its place.
            ClusterError: If a worker fails, or the session is closed.
        """
        inputs = flatten_inputs(self.plan.graph, args, kwargs)
        return answer_of(self._requests.submit(inputs, timeout_s), self._threads)

    def submit(self, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Future[Any]:
        """Begin a request and return at once; the future raises what `run` would.

        The arguments are copied, so they may be changed afterwards. Cancelling the future, also while the
        request is under way, frees what the workers hold for it.
        """
        inputs = flatten_inputs(self.plan.graph, args, kwargs)
        return self._requests.submit({name: array.copy() for name, array in inputs.items()}, timeout_s)

    def stream(self, items: Iterable[Any], *, max_in_flight: int = 0) -> Generator[Any, None, None]:
        """Answer requests in order, several under way at a time.

        Args:
            items: Each the only argument of a request; a tuple is all of its positional arguments, a dict
                its keyword arguments.
            max_in_flight: How many may be under way; by default 4, or two for each way of the plan.

        Raises:
            What `run` raises, when the answer to the request in question is due.
        """
        if max_in_flight < 0:
            raise ValueError(f"max_in_flight must not be negative, got {max_in_flight}")
        limit = max_in_flight or default_in_flight(self.plan)

        def submit(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Future[Any]:
            return self._requests.submit(flatten_inputs(self.plan.graph, args, kwargs), None)

        return in_order(items, submit, limit, self._threads)

    def roll_out(self, plan: Plan, *, reason: str) -> None:
        """Let another plan answer requests from now on; nothing that is under way is lost.

        It is prepared on all of its workers, which are sent the weight slices that they lack; requests go on
        as before meanwhile. Then it takes the requests that wait and those that come. What the old plan has
        begun, it ends, and is then taken off its workers.

        The plan may be of another graph: an answer has the structure of the graph that made it. A request
        that has to begin again, because a worker was lost, is answered by the plan of that time.

        Args:
            plan: For a graph with the inputs of this session's, on devices that it has addresses of.
            reason: Why, for the log.

        Raises:
            ConfigError: If the plan's graph has other inputs, which the message shows; or if the plan is for
                a device that the session has no address of.
            ClusterError: If a worker cannot take its part; the old plan goes on then.
        """
        self._roll_out(plan, reason)

    def replace(self, before: Plan, plan: Plan, *, reason: str) -> bool:
        """`roll_out`, unless ``before`` is not the session's plan any more; return whether it was done."""
        return self._roll_out(plan, reason, before)

    def _roll_out(self, plan: Plan, reason: str, before: Plan | None = None) -> bool:
        with self._rolling:
            if before is not None and before is not self.plan:
                return False
            check_same_inputs(self.plan.graph, plan.graph)
            is_same = plan.graph.fingerprint == self.plan.graph.fingerprint
            contents = self._contents if is_same else ContentTable(plan.graph)
            started_s = self._threads.now()
            expected_s = [self._expected_s(way) for way in plan.ways]
            opened: list[Epoch] = []
            try:
                for way in plan.ways:
                    opened.append(
                        self._openings.open(way, contents, connect_timeout_s=self._connect_timeout_s)
                    )
                with self._lock:
                    if self._is_closed:
                        raise ClusterError("the session is closed")
                    self.plan, self._contents = plan, contents
                    self._epochs |= {epoch.number: epoch for epoch in opened}
                    numbers = [epoch.number for epoch in opened]
                    self._requests.handle(led.Opened(dict(zip(numbers, expected_s, strict=True))))
            except BaseException:
                for epoch in opened:
                    epoch.close(is_idle=False)
                raise
        logger.info(
            "plan.rolled_out",
            extra={
                "reason": reason,
                "epochs": [epoch.number for epoch in opened],
                "graph": plan.graph.name,
                "strategy": plan.strategy,
                "devices": [plan.cluster.devices[rank].name for rank in plan.devices],
                "predicted_latency_s": plan.predicted_latency_s,
                "moved_bytes": sum(epoch.moved_bytes for epoch in opened),
                "seconds": self._threads.now() - started_s,
            },
        )
        return True

    def join(self, address: str, device: Device) -> None:
        """Let another worker take part, now or when it comes up, if that helps.

        A device of the same name gets another address.

        Raises:
            ConfigError: If the session does not look after its workers (`deploy` without ``replan``).
        """
        if self._keeper is None:
            raise ConfigError("this session does not re-plan, so no worker can join it")
        self._keeper.add(device, address)

    def status(self) -> Status:
        """Return what the session is doing now."""
        with self._lock:
            ledger = self._requests.ledger
            open_ways = set(ledger.open_ways)
            epochs = tuple(
                EpochStatus(
                    number=number,
                    state="open" if number in open_ways else "draining",
                    devices=epoch.devices,
                    under_way=ledger.under_way(number),
                )
                for number, epoch in sorted(self._epochs.items())
            )
            used = {name for way in open_ways for name in self._epochs[way].devices}
            return Status(
                time_s=self._threads.now() - self._started_s,
                strategy=self.plan.chosen or self.plan.strategy,
                objective=self.plan.objective,
                predicted_s=self.plan.predicted_latency_s,
                num_answered=self._num_answered,
                num_replayed=ledger.num_replayed,
                num_under_way=ledger.num_pending - ledger.num_waiting,
                num_waiting=ledger.num_waiting,
                latencies_s=tuple(self._latencies),
                devices=() if self._keeper is None else self._keeper.devices(used),
                epochs=epochs,
                decisions=tuple(
                    (item.time_s - self._started_s, item.explain()) for item in self.decisions[-_SHOWN:]
                ),
            )

    @property
    def is_ready(self) -> bool:
        """Whether requests can be taken: the session is open, and there is a plan that answers them."""
        with self._lock:
            return not self._is_closed and bool(self._requests.ledger.open_ways)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What the balancer has weighed, and what came of it; oldest first."""
        return () if self._keeper is None else tuple(self._keeper.balancer.decisions)

    def trace(self) -> list[TraceEvent]:
        """Return what every rank did and when, for the finished requests of this plan that are remembered.

        Times are in seconds since the session began, on this process's clock; those of workers are off by
        at most half of a round trip.
        """
        events = [event for epoch in self.open_epochs() for event in epoch.trace(self._started_s)]
        return sorted(events, key=lambda event: (event.start_s, event.rank))

    def save_incidents(self, folder: Path) -> tuple[Path, ...]:
        """Write what the session's state machines were told and decided last; see `edgeflow.incident`.

        Returns:
            The files: of the requests, of the client's rank and, if the session watches its workers, of them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "ledger.json", folder / "client.json"]
        with self._lock:
            save_incident(self._requests.ledger, paths[0])
            self._client.save_incident(paths[1])
        if self._keeper is not None:
            paths.append(folder / "members.json")
            self._keeper.save_incident(paths[-1])
        return tuple(paths)

    def peak_memory_bytes(self) -> dict[int, int]:
        """Rank -> the most memory that the worker's process has had resident."""
        return {
            rank: report.peak_memory_bytes
            for epoch in self.open_epochs()
            for rank, report in epoch.reports(min_request_id=1 << 62).items()
        }

    @property
    def worker_pids(self) -> dict[int, int]:
        """Rank -> process id of the workers that this session started; empty if they run elsewhere."""
        return dict(self._launcher.pids)

    def close(self) -> None:
        """Take the plan off its workers, and end those that were started for it; may be called twice.

        Requests that have no answer fail with `ClusterError`.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._keeper is not None:
                self._openings.give_up((), ClusterError("the session is closed"))
        if self._keeper is not None:
            self._keeper.close()
        with self._lock:
            is_idle = not self._requests.ledger.num_pending
            self._requests.handle(led.Closed(ClusterError("the session is closed")))
            epochs = tuple(self._epochs.values())
        for epoch in epochs:
            self._closing.start(partial(epoch.close, is_idle=is_idle))
        self._free()

    # For the client rank; the lock is held.

    def on_answered(self, epoch: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        self._num_answered += 1
        self._latencies.append(seconds)
        self._requests.answered(epoch, request_id, outputs, seconds)

    def on_failed(self, epoch: int, request_id: int, error: Exception) -> None:
        self._requests.handle(led.Failed(epoch, request_id, error))

    def on_trouble(self, epoch: int, rank: int, error: EdgeflowError) -> None:
        lost = self._epochs.get(epoch)
        if lost is not None and self._keeper is not None and epoch in self._requests.ledger.open_ways:
            self._keeper.on_trouble(lost, rank, error)
        if lost is not None and isinstance(error, PeerLostError) and error.is_silent:
            ranks = {error.rank, error.peer} & set(lost.addresses)  # a worker may say anything
            if len(ranks) == 2:
                # A roll-out that wants the silent link too would wait for it, and all else for the roll-out.
                ends = {lost.device(rank) for rank in ranks}
                self._openings.give_up(ends, StalePlanError(f"planned before this was known: {error}"))
        self._lose(epoch, error)

    # For the keeper.

    def open_epochs(self) -> list[Epoch]:
        """Epochs that take requests."""
        with self._lock:
            return [self._epochs[way] for way in self._requests.ledger.open_ways]

    @property
    def blamed(self) -> str | None:
        """Name of the device that made the last roll-out fail."""
        return self._openings.blamed

    def epochs_on(self, device: str) -> list[int]:
        """Epochs that a device's worker is to hold."""
        with self._lock:
            epochs = (*self._epochs.values(), *self._openings.epochs)
            return [epoch.number for epoch in epochs if device in epoch.devices]

    def is_carrying(self, device: str) -> bool:
        """Whether frames are on their way to or from a device's worker, and arrive."""
        with self._lock:
            epochs = tuple(self._epochs.values())
            return any(epoch.is_carrying(device) for epoch in epochs if device in epoch.devices)

    def lose_device(self, device: str, error: EdgeflowError) -> None:
        """Begin elsewhere what a device was doing, and give up the roll-outs that want it."""
        with self._lock:
            for epoch in tuple(self._epochs.values()):
                if device in epoch.devices:
                    self.on_trouble(epoch.number, epoch.rank_of(device), error)
            self._openings.give_up({device}, error)

    def fail_waiting(self, error: EdgeflowError) -> None:
        """Fail what waits, and what comes, until there is a plan again."""
        with self._lock:
            self._requests.handle(led.NoPlan(error))

    def _tick(self) -> float | None:
        with self._lock:
            now_s = self._threads.now()
            if now_s >= self._next_tick_s:
                self._next_tick_s = now_s + _TICK_S
                self._requests.handle(led.Tick())
                self._client.tick()
            return _TICK_S if self._requests.ledger.num_pending else None

    # When a way ends; the lock is held.

    def _close_drained(self, way: int) -> None:
        """A way has ended what it had begun, and gets no more."""
        self._closing.start(partial(self._epochs.pop(way).close, is_idle=True))

    def _lose(self, way: int, error: EdgeflowError) -> None:
        """A way is of no use any more: its requests go elsewhere, and what its workers hold is freed."""
        self._requests.handle(led.WayLost(way, error))
        epoch = self._epochs.pop(way, None)
        if epoch is not None and not self._is_closed:
            self._closing.start(partial(epoch.close, is_idle=False))
        if not self._requests.ledger.open_ways and self._keeper is None:
            self._requests.handle(led.NoPlan(error))

    # Helpers.

    @property
    def _connect_timeout_s(self) -> float:
        """The first plan's workers may still have to come up; later plans can do without a worker."""
        if self._care is None or self._keeper is None:
            return CONNECT_TIMEOUT_S
        return self._care.watch.call_timeout_s

    def _expected_s(self, way: Way) -> float:
        """Return what a request is predicted to take on an idle cluster."""
        cost = None if self._cost is None else cost_on(self._cost, way.cluster)
        return max(predict(way, cost, with_events=False).latency_s, 1e-9)

    def _free(self) -> None:
        self._closing.join()
        self._transport.close()
        self._client.close()
        self._launcher.close()
