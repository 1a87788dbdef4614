"""One epoch of a session: one way to answer requests, on its workers.

The client's part of it is in `edgeflow.coordinator.client_rank`; this brings the plan onto its workers, takes
it off again, and gathers what they report.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgeflow.coordinator.client_rank import ClientRank
from edgeflow.coordinator.control import ControlFactory, Description, Report
from edgeflow.coordinator.rollout import CONNECT_TIMEOUT_S, ContentTable, Rollout, RouteChoice
from edgeflow.cost.timeline import trace_event
from edgeflow.errors import EdgeflowError
from edgeflow.net.proof import prove
from edgeflow.net.transport.base import Transport
from edgeflow.plan import Decision
from edgeflow.plan.program import CLIENT
from edgeflow.telemetry.trace import TraceEvent
from edgeflow.threads import Lock, Threads

logger = logging.getLogger(__name__)

#: A worker may still be writing down the end of a request when its answer has arrived.
_TRACE_WAIT_S: Final = 1.0

#: Position of an instruction, when it began, when it ended.
_Record = tuple[int, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the epochs of a session share.

    Attributes:
        lock: Guards everything in the session.
        transport: Carries frames.
        choose_routes: Says where the frames of each rank go.
        control: Makes what calls a worker.
    """

    lock: Lock
    client: ClientRank
    transport: Transport
    choose_routes: RouteChoice
    control: ControlFactory
    threads: Threads


class Epoch:
    """One way to answer requests.

    Args:
        plan: A plan without replicas.
        number: Of the epoch; no other deployment has it.
        addresses: Rank -> address of every worker that takes part.
        contents: Of the plan's graph.
        timeout_s: Of each control call.
        connect_timeout_s: Until a worker answers at all.
    """

    def __init__(
        self,
        plan: Decision,
        number: int,
        addresses: Mapping[int, str],
        *,
        shared: Shared,
        contents: ContentTable,
        timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.plan = plan
        self.number = number
        self.addresses = addresses
        self._shared = shared
        self._connect_timeout_s = min(timeout_s, connect_timeout_s)
        self._is_closed = False
        self._rollout = Rollout(
            plan,
            number,
            addresses,
            attach=self._attach,
            timeout_s=timeout_s,
            connect_timeout_s=self._connect_timeout_s,
            contents=contents,
            choose_routes=shared.choose_routes,
            control=shared.control,
            threads=shared.threads,
        )

    def open(self) -> None:
        """Bring the plan onto its workers; when this raises, none of them holds anything of it."""
        with self._shared.lock:
            self._shared.client.open(self.number, self.plan.programs[CLIENT], where=self.where)
        try:
            self._rollout.open()
        except BaseException:
            self._is_closed = True
            self._disconnect()
            raise

    def close(self, *, is_idle: bool) -> None:
        """Take the plan off the workers that can be reached."""
        with self._shared.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._shared.client.retire(self.number)
        if not is_idle:
            # The lost connection tells workers that hold requests, and those that cannot be called any more.
            self._disconnect()
        self._rollout.close(is_idle=is_idle)
        self._disconnect()

    def device(self, rank: int) -> str:
        """Name of a rank's device."""
        return self.plan.cluster.devices[rank].name

    def rank_of(self, device: str) -> int:
        return next(rank for rank in self.addresses if self.device(rank) == device)

    def where(self, rank: int) -> str:
        """Describe a rank's worker, for messages."""
        return f"worker {self.addresses[rank]} (rank {rank})"

    def is_carrying(self, device: str) -> bool:
        """Whether frames are on their way to or from a device's worker, and arrive; the lock is held."""
        return self._shared.client.is_carrying(self.number, self.rank_of(device))

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that take part."""
        return tuple(self.device(rank) for rank in sorted(self.addresses))

    @property
    def blamed(self) -> str | None:
        """Name of the device that made `open` fail, if one did."""
        return None if self._rollout.blamed is None else self.device(self._rollout.blamed)

    def interrupt(self, error: EdgeflowError) -> None:
        """Give up `open`, which raises ``error``; may be called from any thread."""
        self._rollout.interrupt(error)

    @property
    def descriptions(self) -> Mapping[int, Description]:
        """Rank -> the description that its worker has given of itself."""
        return self._rollout.descriptions

    @property
    def moved_bytes(self) -> int:
        """Weights that had to travel."""
        return sum(self._rollout.moved_bytes.values())

    def reports(self, *, min_request_id: int) -> dict[int, Report]:
        """Ask every worker for its records; requests have their numbers on the wire."""
        return self._rollout.reports(min_request_id=min_request_id)

    def records(self, *, after: set[int], timeout_s: float) -> dict[int, dict[int, list[_Record]]]:
        """Return the records of requests that ended, by rank and request, on this process's clock.

        Args:
            after: Requests that were returned before; those that are returned now are added.
        """
        with self._shared.lock:
            finished = self._shared.client.records(self.number)
        own: dict[int, list[_Record]] = {
            number: [*records] for number, _, records in finished if number not in after
        }
        if not own:
            return {}
        found: dict[int, dict[int, list[_Record]]] = {CLIENT: own}
        for rank, report in self._rollout.reports(
            min_request_id=min(own), timeout_s=timeout_s, is_patient=False
        ).items():
            offset_s = self.descriptions[rank].clock_offset_s
            found[rank] = {
                number: [(position, start - offset_s, stop - offset_s) for position, start, stop in items]
                for number, items in report.requests.items()
                if number in own
            }
        after.update(own)
        return found

    def trace(self, started_s: float) -> list[TraceEvent]:
        """Return what every rank did and when, for all finished requests that are remembered.

        Args:
            started_s: The time that is called 0, on this process's clock.
        """
        with self._shared.lock:
            finished = self._shared.client.records(self.number)
        own: Mapping[int, list[_Record]] = {number: [*records] for number, _, records in finished}
        request_ids = {number: request_id for number, request_id, _ in finished}
        parts: list[tuple[int, float, Mapping[int, list[_Record]]]] = [(CLIENT, 0.0, own)]
        for rank, requests in self._reports_of(set(own)).items():
            parts.append((rank, self.descriptions[rank].clock_offset_s, requests))
        events = []
        for rank, offset_s, requests in parts:
            instructions = self.plan.programs[rank].instructions
            shift_s = offset_s + started_s
            for number, items in requests.items():
                if number not in request_ids:
                    continue
                for position, start_s, stop_s in items:
                    event = trace_event(
                        rank,
                        instructions[position],
                        start_s - shift_s,
                        stop_s - shift_s,
                        request=request_ids[number],
                    )
                    if event is not None:
                        events.append(event)
        return events

    def _reports_of(self, finished: set[int]) -> dict[int, Mapping[int, list[_Record]]]:
        threads = self._shared.threads
        deadline_s = threads.now() + _TRACE_WAIT_S
        while True:
            reports = self.reports(min_request_id=min(finished, default=0))
            is_complete = all(finished <= set(report.requests) for report in reports.values())
            if is_complete or threads.now() > deadline_s:
                return {rank: report.requests for rank, report in reports.items()}
            threads.sleep(0.01)

    def _attach(self, rank: int) -> None:
        connection = self._shared.transport.dial(
            self._rollout.routes[rank],
            prove(self._rollout.key, self.number, source=CLIENT, target=rank),
            self._shared.client.handler(self.number, rank),
            timeout_s=self._connect_timeout_s,
        )
        with self._shared.lock:
            self._shared.client.attach(self.number, rank, connection)

    def _disconnect(self) -> None:
        with self._shared.lock:
            self._shared.client.free(self.number)
