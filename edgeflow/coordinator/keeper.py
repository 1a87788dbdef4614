"""Keeps a session answering: watches its workers, and has another plan rolled out when one is needed.

One thread a worker pings it; one thread decides and acts. What they decide by is pure: `Members` says who is
there, `Rebalancer` says what is believed and when another plan pays. Plans come from the planner that it was
given, for the graph of the plan that runs. Somebody else may roll out plans too: a plan that was made to take
the place of another one is not rolled out when that does not run any more.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from edgeflow.balancer import Rebalancer
from edgeflow.balancer.history import PROBES
from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.coordinator.control import ControlFactory
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.launcher import Launcher
from edgeflow.coordinator.measure import Measurements
from edgeflow.coordinator.members import (
    CLIENT_END,
    Change,
    Joined,
    Lost,
    SetAside,
    Watch,
)
from edgeflow.coordinator.present import Present
from edgeflow.coordinator.watchers import Carrying, Watchers
from edgeflow.cost import CostModel
from edgeflow.errors import (
    ClusterError,
    ConfigError,
    EdgeflowError,
    InfeasiblePlanError,
    PeerLostError,
    StalePlanError,
    WorkerOutOfMemoryError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.plan import Plan
from edgeflow.telemetry.status import DeviceStatus, Status, write_status
from edgeflow.threads import Thread, Threads

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")

#: A worker that ran out of memory, or had none for a new plan, is left alone for so long.
_UNFIT_S = 20.0

#: Tries to bring a plan onto who is there, before waiting for something to change.
_TRIES = 6

#: Least gain that a joined device must bring.
_JOIN_GAIN = 0.05


class Kept(Carrying, Protocol):
    """The session, as its keeper sees it; all of this may be called from any thread."""

    plan: Plan

    @property
    def blamed(self) -> str | None:
        """Name of the device that made the last roll-out fail."""

    def replace(self, before: Plan, plan: Plan, *, reason: str) -> bool:
        """Roll out ``plan``, if ``before`` is still the session's; return whether it was."""

    def open_epochs(self) -> list[Epoch]: ...

    def status(self) -> Status: ...

    def lose_device(self, device: str, error: EdgeflowError) -> None:
        """What its worker was doing is not going to be answered."""

    def fail_waiting(self, error: EdgeflowError) -> None:
        """Nobody can answer now."""


class Keeper:
    """Watches and acts for one session.

    Args:
        cluster: All devices; some may be added.
        addresses: Name of a device -> address; shared with the session.
        cost: Costs on ``cluster`` as known when the plan was made.
        access: What is shown to the workers.
        is_balancing: Whether to re-plan when speeds change, not only when workers go and come.
        status_file: Where to write the session's status.
    """

    def __init__(
        self,
        session: Kept,
        cluster: Cluster,
        addresses: dict[str, str],
        *,
        balancer: Rebalancer,
        cost: CostModel | None,
        control: ControlFactory,
        watch: Watch,
        is_balancing: bool,
        launcher: Launcher,
        threads: Threads,
        status_file: Path | None = None,
    ) -> None:
        self._status_file = status_file
        self.balancer = balancer
        self._launcher = launcher
        self._threads = threads
        self._wake = threads.event()
        self._closed = threads.event()
        self._watchers = Watchers(
            session,
            cluster,
            addresses,
            control=control,
            watch=watch,
            on_changes=self._apply,
            closed=self._closed,
            threads=threads,
        )
        self._present = Present(self._watchers, balancer, threads)
        self._measurements = Measurements(balancer, self._watchers, cost=cost, watch=watch, threads=threads)
        #: Guarded by the lock, which is that of the watchers.
        self._members, self._lock = self._watchers.members, self._watchers.lock
        self._session = session
        #: What runs, as far as this thread has taken note of it.
        self._plan = session.plan
        self._addresses = addresses
        self._watch = watch
        self._is_balancing = is_balancing
        #: What other threads append, this one takes out.
        self._news: deque[tuple[Epoch, int, EdgeflowError]] = deque()
        self._reasons: list[str] = []
        self._joined: deque[str] = deque()
        self._needs_plan = False
        self._retry_s = 0.0
        self._thread: Thread | None = None

    def start(self) -> None:
        self.balancer.switched(self._plan, self._watchers.cluster, self._threads.now())
        if self._is_balancing and self._watch.probe_every_s > 0:
            # Before the first request, while no device has anything else to do: what later probes are
            # compared with.
            for _ in range(PROBES):
                self._measurements.probe(device.name for device in self._watchers.cluster.devices)
        self._thread = self._threads.start(self._run, name="edgeflow-keeper")
        self._watchers.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._watchers.join()

    def devices(self, used: Collection[str]) -> tuple[DeviceStatus, ...]:
        """What is known of every device, for people."""
        now_s = self._threads.now()
        with self._lock:
            cluster = self._watchers.cluster
            up = {device.name: self._members.is_up(device.name) for device in cluster.devices}
        found = []
        for device in cluster.devices:
            belief = self.balancer.belief(device.name, now_s)
            found.append(
                DeviceStatus(
                    name=device.name,
                    address=self._addresses[device.name],
                    is_up=up[device.name],
                    is_used=device.name in used,
                    ratio=belief.ratio,
                    source=belief.source,
                    load=self._measurements.load(device.name, now_s),
                    num_active_requests=self._watchers.active.get(device.name, 0),
                )
            )
        return tuple(found)

    # What the session says; its lock is held.

    def on_trouble(self, epoch: Epoch, rank: int, error: EdgeflowError) -> None:
        """An epoch is lost: because of a connection, or of what a worker says."""
        self._news.append((epoch, rank, error))
        self._needs_plan = True
        self._wake.set()

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            match change:
                case Lost(device, reason):
                    logger.warning("worker.lost", extra={"device": device, "reason": reason})
                    error = WorkerUnreachableError(
                        f"worker {self._addresses[device]} ({device}) was lost: {reason}"
                    )
                    self._reasons.append(f"lost {device}")
                    self._session.lose_device(device, error)
                case Joined(device):
                    logger.info("worker.joined", extra={"device": device})
                    self._joined.append(device)
            self._wake.set()

    def add(self, device: Device, address: str) -> None:
        """Watch for a worker that may join."""
        self._watchers.add(device, address)

    # Acting: one thread.

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(self._watch.interval_s)
            self._wake.clear()
            if self._closed.is_set():
                return
            try:
                self._step()
            except Exception:
                # Whatever it is, the next step may be better than none at all.
                logger.exception("keeper.failed")
            if self._status_file is not None:
                try:
                    write_status(self._status_file, self._session.status())
                except OSError as error:
                    logger.warning("status.failed", extra={"reason": str(error)})

    def _step(self) -> None:
        self._keep_up()
        self._judge()
        with self._lock:
            self._joined.extend(self._members.rested(self._threads.now()))
        if self._needs_plan:
            if self._threads.now() >= self._retry_s or self._joined:
                self._recover()
        elif self._joined:
            self._consider()
        elif self._is_balancing:
            self._balance()

    def _judge(self) -> None:
        """Find out who is to blame for epochs that were lost."""
        for epoch, rank, error in _all_of(self._news):
            mine = epoch.device(rank)
            if isinstance(error, WorkerOutOfMemoryError):
                with self._lock:
                    self._members.unfit(mine, self._threads.now(), _UNFIT_S)
                self._reasons.append(f"{mine} ran out of memory")
            elif isinstance(error, PeerLostError) and error.rank >= 0:
                a, b = epoch.device(error.rank), epoch.device(error.peer)
                self._part(a, b, str(error), is_certain=error.is_silent)
            elif isinstance(error, StalePlanError):
                self._reasons.append(f"{mine} has forgotten the plan")
            else:
                self._part(mine, CLIENT_END, str(error))

    def _part(self, a: str, b: str, reason: str, *, is_certain: bool = False) -> None:
        """Two ends have lost each other: is one of them gone, or the way between them, or what one sends?"""
        if self._watchers.suspect(name for name in (a, b) if name != CLIENT_END):
            return
        with self._lock:
            verdict = self._members.strike(a, b, self._threads.now(), is_certain=is_certain)
        logger.warning("link.lost", extra={"a": a, "b": b, "verdict": str(verdict), "reason": reason})
        if isinstance(verdict, SetAside):
            self._reasons.append(f"{verdict.device} answers, and others lose it again and again")
        elif b == CLIENT_END:
            self._reasons.append(f"the connection with {a} broke")
        else:
            self._reasons.append(f"{a} and {b} lost each other")

    def _recover(self) -> None:
        """Bring some plan onto who is there."""
        self._joined.clear()
        error: Exception | None = None
        for _ in range(_TRIES):
            if self._closed.is_set():
                return
            self._needs_plan = False
            reason = ", ".join(dict.fromkeys(self._reasons)) or "the plan was lost"
            try:
                plan = self._present.plan()
            except Exception as caught:  # the planner may be the caller's own
                if not isinstance(caught, (InfeasiblePlanError, ConfigError)):
                    logger.exception("planner.failed")
                error = caught
                break
            try:
                self._replace(plan, reason)
            except (InfeasiblePlanError, ConfigError) as caught:
                error = caught
                break
            except EdgeflowError as caught:
                error = caught
                logger.warning("recovery.failed", extra={"reason": str(caught)})
                self._blame(plan, caught)
                self._judge()
                continue
            self._reasons.clear()
            if not self._news:
                return
            self._judge()
        self._needs_plan = True
        self._retry_s = self._threads.now() + 2 * self._watch.interval_s
        self._session.fail_waiting(
            ClusterError(f"no plan can be brought onto the workers that are left: {error}")
        )

    def _blame(self, plan: Plan, error: EdgeflowError) -> None:
        """A roll-out has failed: find out because of whom."""
        if isinstance(error, PeerLostError) and error.rank >= 0:
            devices = plan.cluster.devices
            a, b = devices[error.rank].name, devices[error.peer].name
            self._part(a, b, str(error), is_certain=True)  # it was tried anew just now
            return
        gone = self._watchers.suspect(plan.cluster.devices[rank].name for rank in plan.devices)
        blamed = self._session.blamed
        if gone or blamed is None:
            return
        if isinstance(error, WorkerOverloadedError):
            with self._lock:
                self._members.unfit(blamed, self._threads.now(), _UNFIT_S)
            self._reasons.append(f"{blamed} has no memory left")
        elif not isinstance(error, StalePlanError):
            self._part(blamed, CLIENT_END, str(error), is_certain=True)

    def _consider(self) -> None:
        """Devices are there that were not: use them if that helps."""
        names = dict.fromkeys(_all_of(self._joined))
        try:
            self.balancer.joined(self._present.cluster())
            plan = self._present.plan()
        except (InfeasiblePlanError, ConfigError):
            return
        before_s, after_s = self.balancer.figure(self._plan), self.balancer.figure(plan)
        is_worth_it = after_s < before_s * (1 - _JOIN_GAIN)
        logger.info(
            "worker.considered",
            extra={"devices": list(names), "before_s": before_s, "after_s": after_s, "used": is_worth_it},
        )
        if is_worth_it:
            self._try(plan, f"joined {', '.join(names)}")

    def _balance(self) -> None:
        self._measurements.observe(self._session.open_epochs())
        self._measurements.probe_idle()
        plan = self.balancer.decide(self._threads.now())
        if plan is not None:
            self._try(plan, self.balancer.decisions[-1].explain())

    def _try(self, plan: Plan, reason: str) -> None:
        """Roll out a plan that is better; if that does not work, the one that runs goes on."""
        try:
            self._replace(plan, reason)
        except EdgeflowError as error:
            logger.warning("switch.failed", extra={"reason": str(error)})
            if not isinstance(error, WorkerOverloadedError):
                self._blame(plan, error)

    def _replace(self, plan: Plan, reason: str) -> None:
        """Roll out a plan in the place of the one that runs, unless somebody else was quicker."""
        if self._session.replace(self._plan, plan, reason=reason):
            self._adopted(plan)
        else:
            logger.info("switch.overtaken", extra={"reason": reason})
            self._keep_up()

    def _keep_up(self) -> None:
        """Take note of the plan that runs, if somebody else has rolled it out."""
        if self._session.plan is not self._plan:
            self._adopted(self._session.plan)

    def _adopted(self, plan: Plan) -> None:
        if plan.graph.fingerprint != self._plan.graph.fingerprint:
            self._present.forget_plans()
        self._plan = plan
        try:
            cluster = self._present.cluster()
        except InfeasiblePlanError:
            cluster = self._watchers.cluster  # all are lost again
        self.balancer.switched(plan, cluster, self._threads.now())


def _all_of(queue: deque[_Item]) -> Iterator[_Item]:
    """Take out what is there; what another thread appends meanwhile is not lost."""
    while queue:
        yield queue.popleft()
