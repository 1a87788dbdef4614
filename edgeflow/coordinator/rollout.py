"""Bringing one plan onto its workers, and taking it off: carries out the decisions of `DeploymentState`."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from edgeflow.coordinator import state as s
from edgeflow.coordinator.control import ControlFactory, Description, Report
from edgeflow.errors import EdgeflowError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.net.content import Content, content_of
from edgeflow.net.proof import new_key
from edgeflow.plan import Decision
from edgeflow.plan.program import CLIENT, WeightSlice
from edgeflow.threads import Crew, Queue, Threads

logger = logging.getLogger(__name__)

#: Longest wait for a worker that does not answer at all, within the deployment's own deadline.
CONNECT_TIMEOUT_S: Final = 10.0

#: Of the calls that take a plan off its workers; a worker that does not answer in time is left alone.
_UNDO_TIMEOUT_S: Final = 2.0

#: Weights get this much time beyond a call's own: one second per so many bytes, the rate of a poor Wi-Fi.
_SLOWEST_BYTES_PER_S: Final = 1e6

#: Addresses of control planes and data ports, each by rank -> where the frames of each rank go.
RouteChoice = Callable[[Mapping[int, str], Mapping[int, Mapping[str, int]]], Mapping[int, str]]


class ContentTable:
    """Weight slices of a graph, and their hashes: each is hashed once, however many need it.

    May be used from several threads.
    """

    def __init__(self, graph: ModelGraph) -> None:
        self._graph = graph
        self._known: dict[WeightSlice, Content] = {}
        self._lock = threading.Lock()

    def array(self, item: WeightSlice) -> Array:
        whole = self._graph.weights[item.tensor]
        return np.ascontiguousarray(whole[tuple(slice(start, stop) for start, stop in item.region.intervals)])

    def content(self, item: WeightSlice) -> Content:
        with self._lock:
            known = self._known.get(item)
            if known is None:
                known = self._known[item] = content_of(self.array(item), dtype=item.dtype)
            return known


class Rollout:
    """One epoch of one plan on its workers.

    Args:
        addresses: Rank -> address of every worker that takes part.
        attach: Opens the data connection with a rank.
        timeout_s: Of each control call.
        contents: Of the plan's graph.
        connect_timeout_s: Of those that a worker that is up answers at once.
        choose_routes: Says where the frames of each rank go.
        control: Makes what calls a worker.

    Attributes:
        key: Lets its holder connect to the epoch; see `edgeflow.net.proof`.
        moved_bytes: Rank -> bytes of weights that it was sent.
    """

    def __init__(
        self,
        plan: Decision,
        epoch: int,
        addresses: Mapping[int, str],
        *,
        attach: Callable[[int], None],
        timeout_s: float,
        contents: ContentTable,
        choose_routes: RouteChoice,
        control: ControlFactory,
        threads: Threads,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.key = new_key()
        self.plan = plan
        self.epoch = epoch
        self.addresses = addresses
        self.clients = {rank: control(address, rank) for rank, address in addresses.items()}
        self.descriptions: dict[int, Description] = {}
        self._timeout_s = timeout_s
        self._choose_routes = choose_routes
        self._threads = threads
        self._connect_timeout_s = min(timeout_s, connect_timeout_s)
        #: Rank of the first call that failed.
        self.blamed: int | None = None
        self._state = s.DeploymentState(addresses)
        self._events: Queue[s.DeploymentEvent] = threads.queue()
        self._missing: dict[int, tuple[str, ...]] = {}
        self.moved_bytes: dict[int, int] = {}
        self._contents = contents
        self._crew = Crew(threads, "edgeflow-rollout")
        self._calls: Mapping[s.Call, Callable[[int], None]] = {
            s.Call.DESCRIBE: self._describe,
            s.Call.PREPARE: self._prepare,
            s.Call.LOAD: self._load,
            s.Call.COMMIT: self._commit,
            s.Call.ATTACH: attach,
            s.Call.RELEASE: self._release,
            s.Call.ABORT: self._abort,
        }

    def open(self) -> None:
        """Deploy; when this raises, no worker holds anything of it."""
        try:
            self._drive(s.Opened())
        except BaseException:
            self._shut()
            raise

    def close(self, *, is_idle: bool) -> None:
        """Take the plan off the workers that can be reached; may be called twice."""
        if self._state.phase is s.Phase.COMMITTED:
            self._events = self._threads.queue()
            self._drive(s.CloseRequested(is_idle))
        self._shut()

    def interrupt(self, error: EdgeflowError) -> None:
        """Give up `open`, which raises ``error``; from any thread, also when it has returned."""
        self._events.put(s.Interrupted(error))

    def reports(
        self, *, min_request_id: int, timeout_s: float | None = None, is_patient: bool = True
    ) -> dict[int, Report]:
        """Ask every worker what it has done.

        Args:
            timeout_s: Of each call; as for other calls if None.
            is_patient: Raise what a worker answers; else leave those out that give no report.
        """
        found = {}
        for rank, client in sorted(self.clients.items()):
            try:
                found[rank] = client.report(
                    self.epoch, min_request_id=min_request_id, timeout_s=timeout_s or self._timeout_s
                )
            except EdgeflowError:
                if is_patient:
                    raise
        return found

    @functools.cached_property
    def routes(self) -> Mapping[int, str]:
        """Rank -> where its frames go; known once every worker has described itself."""
        ports = {rank: description.data_ports for rank, description in self.descriptions.items()}
        return self._choose_routes(self.addresses, ports)

    def _shut(self) -> None:
        self._crew.join()
        for client in self.clients.values():
            client.close()

    def _drive(self, event: s.DeploymentEvent) -> None:
        """Handle events until the state has finished; raise what made it fail."""
        while True:
            for instruction in self._state.handle(event):
                match instruction:
                    case s.MakeCall(rank, call):
                        self._crew.start(functools.partial(self._make, rank, call))
                    case s.CancelCall(rank):
                        self.clients[rank].cancel()
                    case s.Finish(error):
                        logger.info("deployment.finished", extra={"phase": self._state.phase.value})
                        if error is not None:
                            raise error
                        return
            try:
                event = self._events.get()
            except KeyboardInterrupt as error:
                event = s.Interrupted(error)

    def _make(self, rank: int, call: s.Call) -> None:
        try:
            self._calls[call](rank)
        except BaseException as error:
            logger.debug("call.failed", extra={"rank": rank, "call": call.value, "reason": str(error)})
            if self.blamed is None:
                self.blamed = rank
            self._events.put(s.CallFailed(rank, error))
        else:
            self._events.put(s.CallDone(rank))

    # The calls; each runs on a thread of its own.

    def _describe(self, rank: int) -> None:
        self.descriptions[rank] = self.clients[rank].describe(timeout_s=self._connect_timeout_s)

    def _prepare(self, rank: int) -> None:
        program = self.plan.programs[rank]
        self._missing[rank] = self.clients[rank].prepare(
            self.epoch,
            program,
            fingerprint=self.plan.fingerprint,
            peers={peer: route for peer, route in self.routes.items() if peer != CLIENT},
            contents=[self._contents.content(item) for item in program.weights],
            key=self.key,
            timeout_s=self._timeout_s,
        )

    def _load(self, rank: int) -> None:
        missing = set(self._missing[rank])
        items = {
            content.content_hash: (item, content)
            for item in self.plan.programs[rank].weights
            if (content := self._contents.content(item)).content_hash in missing
        }
        num_bytes = sum(content.num_bytes for _, content in items.values())

        def slices() -> Iterator[tuple[Content, Array]]:
            for item, content in items.values():
                yield content, self._contents.array(item)

        timeout_s = self._timeout_s + num_bytes / _SLOWEST_BYTES_PER_S
        self.clients[rank].load(self.epoch, slices(), timeout_s=timeout_s)
        self.moved_bytes[rank] = num_bytes
        logger.info("weights.sent", extra={"rank": rank, "num_bytes": num_bytes, "num_slices": len(items)})

    def _commit(self, rank: int) -> None:
        self.clients[rank].commit(self.epoch, timeout_s=self._connect_timeout_s)

    def _release(self, rank: int) -> None:
        self.clients[rank].release(self.epoch, timeout_s=min(self._timeout_s, _UNDO_TIMEOUT_S))

    def _abort(self, rank: int) -> None:
        self.clients[rank].abort(self.epoch, timeout_s=min(self._timeout_s, _UNDO_TIMEOUT_S))
