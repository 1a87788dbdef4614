"""Keeps a session answering: watches its workers, and has another plan rolled out when one is needed.

One thread per worker pings it; one thread decides and acts, and has plans made beside it
(`edgeflow.coordinator.planning`), so that a loss is dealt with while a planner works. Its decisions rest on
pure parts: `Members` knows which workers are up, `Rebalancer` estimates speeds and says when another plan
pays. The session's users may roll out plans too: a plan that was made to replace another one is not rolled
out when that does not run any more.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from edgeflow.balancer import Question, Rebalancer
from edgeflow.balancer.history import PROBES
from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.coordinator.blame import Blame
from edgeflow.coordinator.control import ControlFactory
from edgeflow.coordinator.epoch import Epoch
from edgeflow.coordinator.launcher import Launcher
from edgeflow.coordinator.measure import Measurements
from edgeflow.coordinator.members import (
    Change,
    Joined,
    Lost,
    Watch,
)
from edgeflow.coordinator.planning import Answer, Planning
from edgeflow.coordinator.present import Present
from edgeflow.coordinator.watchers import Carrying, Watchers
from edgeflow.cost import CostModel
from edgeflow.errors import (
    ClusterError,
    ConfigError,
    EdgeflowError,
    InfeasiblePlanError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.incident import save_incident
from edgeflow.plan import Plan
from edgeflow.telemetry.status import DeviceStatus, Status, write_status
from edgeflow.threads import Crew, Thread, Threads

logger = logging.getLogger(__name__)

_Item = TypeVar("_Item")

#: Tries to bring a plan onto the workers that are up, before waiting for a change.
_TRIES = 6

#: Least gain that a joined device must bring.
_JOIN_GAIN = 0.05


class Kept(Carrying, Protocol):
    """The session, as its keeper sees it; its methods may be called from any thread."""

    plan: Plan

    @property
    def blamed(self) -> str | None:
        """Name of the device that made the last roll-out fail."""

    def replace(self, before: Plan, plan: Plan, *, reason: str) -> bool:
        """Roll out ``plan`` if ``before`` is still the session's; return whether it was."""

    def open_epochs(self) -> list[Epoch]:
        """Return the epochs that take requests."""

    def status(self) -> Status:
        """Return what the session is doing now."""

    def lose_device(self, device: str, error: EdgeflowError) -> None:
        """Give up the work of a device, and begin it elsewhere."""

    def fail_waiting(self, error: EdgeflowError) -> None:
        """Fail the requests that wait, and those that come, until there is a plan again."""


@dataclass(frozen=True, slots=True)
class _Recovery:
    """A plan is wanted since the one that ran was lost.

    Attributes:
        cluster: The devices that it is for.
        tries: How many more may follow.
    """

    cluster: Cluster
    tries: int


@dataclass(frozen=True, slots=True)
class _Addition:
    """A plan is wanted that may use devices that have joined."""

    devices: tuple[str, ...]


_About = _Recovery | _Addition | Question


class Keeper:
    """Watches and acts for one session.

    Args:
        cluster: All devices; some may be added.
        addresses: Name of a device -> address; shared with the session.
        cost: Costs on ``cluster`` as known when the plan was made.
        control: Makes what calls a worker.
        is_balancing: Whether to re-plan when speeds change, not only when workers go and come.
        launcher: Replaces workers that are gone, if it can.
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
        self._planning: Planning[_About] = Planning(threads, self._wake.set)
        #: Starts workers that replace lost ones.
        self._replacing = Crew(threads, "edgeflow-replace")
        #: Guarded by the lock, which is that of the watchers.
        self._members, self._lock = self._watchers.members, self._watchers.lock
        self._session = session
        #: The running plan, as far as this thread has taken note of it.
        self._plan = session.plan
        self._addresses = addresses
        self._watch = watch
        self._is_balancing = is_balancing
        self._blame = Blame(self._watchers, threads)
        #: Appended by other threads, taken out by this one.
        self._joined: deque[str] = deque()
        self._needs_plan = False
        self._retry_s = 0.0
        self._thread: Thread | None = None

    def start(self) -> None:
        self.balancer.switched(self._plan, self._watchers.cluster, self._threads.now())
        if self._is_balancing and self._watch.probe_every_s > 0:
            # Before the first request, while every device is idle: later probes are compared with these.
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
        self._planning.join()
        self._replacing.join()

    def devices(self, used: Collection[str]) -> tuple[DeviceStatus, ...]:
        """Return what is known of every device, for people."""
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

    def save_incident(self, path: Path) -> None:
        with self._lock:
            save_incident(self._members, path)

    # For the session, which holds its lock, and for the watchers.

    def on_trouble(self, epoch: Epoch, rank: int, error: EdgeflowError) -> None:
        """An epoch is lost: because of a connection, or of what a worker reports."""
        self._blame.tell(epoch, rank, error)
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
                    self._blame.reasons.append(f"lost {device}")
                    self._session.lose_device(device, error)
                    self._replacing.start(partial(self._replace_worker, device))
                case Joined(device):
                    logger.info("worker.joined", extra={"device": device})
                    self._joined.append(device)
            self._wake.set()

    def _replace_worker(self, device: str) -> None:
        """Start another worker for a device, if its launcher can; it joins when it answers."""
        if self._closed.is_set():
            return
        try:
            address = self._launcher.replace(device)
        except EdgeflowError as error:
            logger.warning("worker.not_replaced", extra={"device": device, "reason": str(error)})
            return
        if address is not None:
            logger.info("worker.replaced", extra={"device": device, "address": address})
            self._addresses[device] = address

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
                # The next step may succeed; without this thread nothing would.
                logger.exception("keeper.failed")
            if self._status_file is not None:
                try:
                    write_status(self._status_file, self._session.status())
                except OSError as error:
                    logger.warning("status.failed", extra={"reason": str(error)})

    def _step(self) -> None:
        self._keep_up()
        self._blame.judge()
        with self._lock:
            self._joined.extend(self._members.rested(self._threads.now()))
        if self._needs_plan:
            if self._threads.now() >= self._retry_s or self._joined:
                self._ask_for_recovery(_TRIES)
            return
        answer, asked = self._planning.take(), self._planning.asked
        if answer is not None:
            self._act_on(answer)
        elif isinstance(asked, _Recovery):
            if self._is_outdated(asked):
                self._ask_for_recovery(_TRIES)
        elif asked is not None:
            self._measure()
        elif self._joined:
            self._ask_for_addition()
        elif self._is_balancing:
            self._measure()
            self._balance()

    def _act_on(self, answer: Answer[_About]) -> None:
        match answer.about:
            case _Recovery():
                self._recover(answer.about, answer.made)
            case _Addition(devices):
                self._consider(devices, answer.made)
            case Question():
                self._weigh(answer.about, answer.made)

    # A plan for the workers that are left.

    def _ask_for_recovery(self, tries: int) -> None:
        self._joined.clear()
        self._needs_plan = False
        try:
            cluster, make = self._present.cluster(), self._present.request()
        except InfeasiblePlanError as error:
            self._give_up(error)
            return
        self._planning.ask(_Recovery(cluster, tries - 1), make)

    def _recover(self, asked: _Recovery, made: Plan | Exception) -> None:
        """Bring a plan onto the workers that are up."""
        if isinstance(made, Exception):
            if not isinstance(made, InfeasiblePlanError | ConfigError):
                logger.error("planner.failed", exc_info=made)
            self._give_up(made)
            return
        if self._is_outdated(asked):
            self._ask_for_recovery(_TRIES)
            return
        reason = ", ".join(dict.fromkeys(self._blame.reasons)) or "the plan was lost"
        try:
            self._replace(made, reason)
        except (InfeasiblePlanError, ConfigError) as error:
            self._give_up(error)
        except EdgeflowError as error:
            logger.warning("recovery.failed", extra={"reason": str(error)})
            self._blame.of_roll_out(made, error, self._session.blamed)
            self._blame.judge()
            if asked.tries > 0 and not self._closed.is_set():
                self._ask_for_recovery(asked.tries)
            else:
                self._give_up(error)
        else:
            self._blame.reasons.clear()

    def _is_outdated(self, asked: _Recovery) -> bool:
        """Return whether workers came or went while the plan was made."""
        try:
            return self._present.cluster() != asked.cluster
        except InfeasiblePlanError:
            return True

    def _give_up(self, error: Exception) -> None:
        """Fail what waits, and try again later, or when a worker joins."""
        self._needs_plan = True
        self._retry_s = self._threads.now() + 2 * self._watch.interval_s
        self._session.fail_waiting(
            ClusterError(f"no plan can be brought onto the workers that are left: {error}")
        )

    # A better plan than the running one.

    def _ask_for_addition(self) -> None:
        names = tuple(dict.fromkeys(_all_of(self._joined)))
        try:
            self.balancer.joined(self._present.cluster())
            make = self._present.request()
        except InfeasiblePlanError:
            return
        self._planning.ask(_Addition(names), make)

    def _consider(self, devices: tuple[str, ...], made: Plan | Exception) -> None:
        """Use devices that have joined if that helps."""
        if isinstance(made, Exception):
            if not isinstance(made, InfeasiblePlanError | ConfigError):
                logger.error("planner.failed", exc_info=made)
            return
        before_s, after_s = self.balancer.figure(self._plan), self.balancer.figure(made)
        is_worth_it = after_s < before_s * (1 - _JOIN_GAIN)
        logger.info(
            "worker.considered",
            extra={"devices": list(devices), "before_s": before_s, "after_s": after_s, "used": is_worth_it},
        )
        if is_worth_it:
            self._try(made, f"joined {', '.join(devices)}")

    def _measure(self) -> None:
        if self._is_balancing:
            self._measurements.observe(self._session.open_epochs())
            self._measurements.probe_idle()

    def _balance(self) -> None:
        found = self.balancer.question(self._threads.now())
        if isinstance(found, Question):
            self._planning.ask(found, found.make)
        elif found is not None:
            self._try(found, self.balancer.decisions[-1].explain())

    def _weigh(self, question: Question, made: Plan | Exception) -> None:
        """Switch to the plan that was made if that pays."""
        if isinstance(made, Exception) and not isinstance(made, InfeasiblePlanError):
            logger.error("planner.failed", exc_info=made)
            return
        plan = self.balancer.answer(question, made, self._threads.now())
        if plan is not None:
            self._try(plan, self.balancer.decisions[-1].explain())

    def _try(self, plan: Plan, reason: str) -> None:
        """Roll out a better plan; if that fails, the running one goes on."""
        try:
            self._replace(plan, reason)
        except EdgeflowError as error:
            logger.warning("switch.failed", extra={"reason": str(error)})
            if not isinstance(error, WorkerOverloadedError):
                self._blame.of_roll_out(plan, error, self._session.blamed)

    def _replace(self, plan: Plan, reason: str) -> None:
        """Roll out a plan in place of the running one, unless another has replaced that already."""
        if self._session.replace(self._plan, plan, reason=reason):
            self._adopted(plan)
        else:
            logger.info("switch.overtaken", extra={"reason": reason})
            self._keep_up()

    def _keep_up(self) -> None:
        """Take note of the running plan, if a user has rolled it out."""
        if self._session.plan is not self._plan:
            self._adopted(self._session.plan)

    def _adopted(self, plan: Plan) -> None:
        if plan.graph.fingerprint != self._plan.graph.fingerprint:
            self._present.forget_plans()
        self._plan = plan
        self._planning.forget()
        try:
            cluster = self._present.cluster()
        except InfeasiblePlanError:
            cluster = self._watchers.cluster  # all workers are lost again
        self.balancer.switched(plan, cluster, self._threads.now())


def _all_of(queue: deque[_Item]) -> Iterator[_Item]:
    """Take the items out of a queue; none is lost that another thread appends meanwhile."""
    while queue:
        yield queue.popleft()
