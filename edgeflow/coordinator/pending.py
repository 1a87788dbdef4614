"""Requests of a session that have no answer yet: their inputs and futures, and the ledger's decisions."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from edgeflow.coordinator import ledger as led
from edgeflow.coordinator.answers import check_timeout, settle, settle_answer
from edgeflow.coordinator.client_rank import ClientRank
from edgeflow.coordinator.epoch import Epoch
from edgeflow.errors import EdgeflowError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.threads import Lock, Threads


class Pending:
    """Takes requests, and carries out the ledger's decisions about them.

    All methods but `submit` are called with the lock held.

    Args:
        ledger: Decides.
        epochs: The ways that requests can go, by number; kept by the session.
        client: Runs requests on epochs.
        lock: The session's.
        on_drained: Told the number of a retired way whose last request has ended.
    """

    def __init__(
        self,
        ledger: led.Ledger,
        epochs: Mapping[int, Epoch],
        client: ClientRank,
        *,
        lock: Lock,
        threads: Threads,
        on_drained: Callable[[int], None],
    ) -> None:
        self.ledger = ledger
        self._epochs = epochs
        self._client = client
        self._lock = lock
        self._threads = threads
        self._on_drained = on_drained
        self._events: deque[led.LedgerEvent] = deque()
        self._is_handling = False
        self._ids = itertools.count(1)
        self._inputs: dict[int, Mapping[str, Array]] = {}
        #: Answers, each with the graph that made it.
        self._outputs: dict[int, tuple[ModelGraph, dict[str, Array]]] = {}
        self._futures: dict[int, Future[Any]] = {}

    def submit(self, inputs: Mapping[str, Array], timeout_s: float | None) -> Future[Any]:
        """Begin a request; the future raises what `Session.run` would.

        Raises:
            ConfigError: If ``timeout_s`` is not positive.
            OverloadedError: If too many requests wait already.
            ClusterError: If the session is closed.
        """
        check_timeout(timeout_s)
        future: Future[Any] = Future()
        with self._lock:
            # Ids are given and requests begun in one order: every rank meets them in that order.
            request_id = next(self._ids)
            self._inputs[request_id] = inputs
            self._futures[request_id] = future
            deadline_s = None if timeout_s is None else self._threads.now() + timeout_s
            try:
                self.handle(led.Submitted(request_id, deadline_s))
            except EdgeflowError:
                self._forget(request_id)
                raise
        future.add_done_callback(functools.partial(self._on_done, request_id))
        self._client.call(lambda: None)  # wakes the thread, which has a deadline to watch now
        return future

    def answered(self, way: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        """Take an answer, which the ledger may not want any more."""
        self._outputs[request_id] = self._epochs[way].plan.graph, outputs
        self.handle(led.Answered(way, request_id, seconds))
        self._outputs.pop(request_id, None)

    def handle(self, event: led.LedgerEvent) -> None:
        """Take an event; events that follow from it are handled after it, in order."""
        self._events.append(event)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._events:
                for instruction in self.ledger.handle(self._events.popleft(), self._threads.now()):
                    self._carry_out(instruction)
        finally:
            self._is_handling = False
            self._events.clear()

    def _on_done(self, request_id: int, future: Future[Any]) -> None:
        """Free what is held for a request that was cancelled."""
        if not future.cancelled():
            return
        future.set_running_or_notify_cancel()  # wakes the threads that wait for it
        with self._lock:
            self._forget(request_id)
            self.handle(led.Abandoned(request_id))

    def _carry_out(self, instruction: led.LedgerInstruction) -> None:
        match instruction:
            case led.Begin(way, request_id, deadline_s):
                self._client.begin(way, request_id, self._inputs[request_id], deadline_s)
            case led.Cancel(way, request_id):
                self._client.cancel(way, request_id)
            case led.Answer(request_id):
                self._answer(request_id)
            case led.Fail(request_id, error):
                future = self._forget(request_id)
                self._client.call(functools.partial(settle, future, error=error))
            case led.Drained(way):
                self._on_drained(way)

    def _answer(self, request_id: int) -> None:
        graph, outputs = self._outputs.pop(request_id)
        future = self._forget(request_id)

        # Not here: callbacks of the future are foreign code, and the lock is held.
        self._client.call(functools.partial(settle_answer, future, graph, outputs))

    def _forget(self, request_id: int) -> Future[Any] | None:
        self._inputs.pop(request_id, None)
        return self._futures.pop(request_id, None)
