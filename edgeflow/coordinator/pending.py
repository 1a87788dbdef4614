"""Requests of a session that have no answer yet: their inputs, their futures, and what the ledger decides."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from edgeflow.coordinator import ledger as led
from edgeflow.coordinator.answers import check_timeout, settle, settle_answer
from edgeflow.coordinator.epoch import Epoch
from edgeflow.errors import EdgeflowError
from edgeflow.graph.ir import Array, ModelGraph


class Pending:
    """Takes requests, and carries out what the ledger decides about them.

    All but `submit` is called with the lock held.

    Args:
        ledger: Decides.
        epochs: The ways that requests can go, by number; kept by the session.
        lock: The session's.
        call: Does something later, on a thread that may wait.
        on_drained: Told the number of a way that has ended what it had begun, and gets no more.
    """

    def __init__(
        self,
        ledger: led.Ledger,
        epochs: Mapping[int, Epoch],
        *,
        lock: threading.RLock,
        call: Callable[[Callable[[], None]], None],
        on_drained: Callable[[int], None],
    ) -> None:
        self.ledger = ledger
        self._epochs = epochs
        self._lock = lock
        self._call = call
        self._on_drained = on_drained
        self._events: deque[led.LedgerEvent] = deque()
        self._is_handling = False
        self._ids = itertools.count(1)
        self._inputs: dict[int, Mapping[str, Array]] = {}
        #: Answers, with the graph that they are of.
        self._outputs: dict[int, tuple[ModelGraph, dict[str, Array]]] = {}
        self._futures: dict[int, Future[Any]] = {}

    def submit(self, inputs: Mapping[str, Array], timeout_s: float | None) -> Future[Any]:
        """Begin a request; the future raises what `Session.run` would.

        Raises:
            ConfigError: If the time is none.
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
            deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
            try:
                self.handle(led.Submitted(request_id, deadline_s))
            except EdgeflowError:
                self._forget(request_id)
                raise
        future.add_done_callback(functools.partial(self._on_done, request_id))
        self._call(lambda: None)  # it has deadlines to look at now
        return future

    def answered(self, way: int, request_id: int, outputs: dict[str, Array], seconds: float) -> None:
        """A request is answered; the ledger says whether that was waited for."""
        self._outputs[request_id] = self._epochs[way].plan.graph, outputs
        self.handle(led.Answered(way, request_id, seconds))
        self._outputs.pop(request_id, None)

    def handle(self, event: led.LedgerEvent) -> None:
        """Take an event; what it leads to is taken after it, in order."""
        self._events.append(event)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._events:
                for instruction in self.ledger.handle(self._events.popleft(), time.monotonic()):
                    self._carry_out(instruction)
        finally:
            self._is_handling = False
            self._events.clear()

    def _on_done(self, request_id: int, future: Future[Any]) -> None:
        """Free what is held for a request that was cancelled."""
        if not future.cancelled():
            return
        future.set_running_or_notify_cancel()  # whoever waits for it hears so now
        with self._lock:
            self._forget(request_id)
            self.handle(led.Abandoned(request_id))

    def _carry_out(self, instruction: led.LedgerInstruction) -> None:
        match instruction:
            case led.Begin(way, request_id, deadline_s):
                self._epochs[way].begin(request_id, self._inputs[request_id], deadline_s)
            case led.Cancel(way, request_id):
                self._epochs[way].cancel(request_id)
            case led.Answer(request_id):
                self._answer(request_id)
            case led.Fail(request_id, error):
                future = self._forget(request_id)
                self._call(functools.partial(settle, future, error=error))
            case led.Drained(way):
                self._on_drained(way)

    def _answer(self, request_id: int) -> None:
        graph, outputs = self._outputs.pop(request_id)
        future = self._forget(request_id)

        # Not here: whoever waits for the future may run code of his own, and the lock is held.
        self._call(functools.partial(settle_answer, future, graph, outputs))

    def _forget(self, request_id: int) -> Future[Any] | None:
        self._inputs.pop(request_id, None)
        return self._futures.pop(request_id, None)
