"""Requests answered together: a batcher in front of a session whose plan is for a batch."""

from __future__ import annotations

import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

from edgeflow.closing import Closing
from edgeflow.coordinator.answers import (
    MAX_WAITING,
    answer_of,
    check_timeout,
    in_order,
    settle,
    settle_answer,
)
from edgeflow.coordinator.gather import Gatherer, Together
from edgeflow.errors import ClusterError, DeadlineExceededError
from edgeflow.graph.batch import Batch, join, split
from edgeflow.graph.ir import Array
from edgeflow.graph.structure import flatten_inputs, to_array, unflatten_inputs

#: How long a request waits for others to share its run.
DEFAULT_MAX_WAIT_S: Final = 0.002

#: Batches under way; what keeps a plan without replicas busy.
DEFAULT_IN_FLIGHT: Final = 4


class Backend(Protocol):
    """Answers batches: a session of `edgeflow.deploy`."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]: ...


class Batcher(Closing):
    """Answers requests as a session does, several by one run. Use it in a ``with`` statement, or close it.

    Frames between devices and the start of kernels are paid once for all of them. Answers are those of the
    single graph but for the order of float sums, so their last bits may depend on the size of the batch. The
    error of a batch is the error of each of its requests. A batch that is not full takes as long as a full
    one.

    Its methods may be called from several threads.

    Args:
        backend: A session with a plan of ``batch.graph``; to be closed by its owner after the batcher.
        max_wait_s: How long a request may wait for others while the workers have room for it.
        max_in_flight: Batches under way; requests gather while there are as many.
        max_waiting: Requests that may wait for a batch.
        on_begin: Told how many requests a batch holds, when it begins; must return soon.

    Raises:
        ConfigError: If a limit makes no sense.

    Examples:
        >>> batch = ef.capture_batch(module, (x,), size=8)  # doctest: +SKIP
        >>> with ef.deploy(ef.plan(batch.graph, cluster), local=True) as session:  # doctest: +SKIP
        ...     with ef.Batcher(session, batch) as batcher:
        ...         answers = list(batcher.stream(items))
    """

    def __init__(
        self,
        backend: Backend,
        batch: Batch,
        *,
        max_wait_s: float = DEFAULT_MAX_WAIT_S,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        max_waiting: int = MAX_WAITING,
        on_begin: Callable[[int], None] = lambda num_requests: None,
    ) -> None:
        self._backend = backend
        self._batch = batch
        self._max_in_flight = max_in_flight
        self._on_begin = on_begin
        self._gatherer = Gatherer(
            size=batch.size, max_wait_s=max_wait_s, max_in_flight=max_in_flight, max_waiting=max_waiting
        )
        #: Guards everything below.
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self._inputs: dict[int, Mapping[str, Array]] = {}
        self._futures: dict[int, Future[Any]] = {}
        self._runs: dict[int, Future[Any]] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="edgeflow-batcher", daemon=True)
        self._thread.start()

    # What people call.

    def run(self, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Any:
        """Answer one request; as `Session.run`."""
        return answer_of(self.submit(*args, timeout_s=timeout_s, **kwargs))

    def submit(self, *args: Any, timeout_s: float | None = None, **kwargs: Any) -> Future[Any]:
        """Begin a request and return at once; as `Session.submit`.

        A batch ends early when every one of its requests is cancelled or late.

        Raises:
            ConfigError: If the arguments do not fit the single graph.
            OverloadedError: If too many requests wait already.
            ClusterError: If the batcher is closed.
        """
        inputs = flatten_inputs(self._batch.single, args, kwargs)
        check_timeout(timeout_s)
        future: Future[Any] = Future()
        copies = {name: array.copy() for name, array in inputs.items()}
        with self._changed:
            if self._is_closed:
                raise ClusterError("the batcher is closed")
            now_s = time.monotonic()
            request = next(self._ids)
            self._gatherer.add(request, now_s, None if timeout_s is None else now_s + timeout_s)
            self._inputs[request] = copies
            self._futures[request] = future
            self._changed.notify()
        future.add_done_callback(functools.partial(self._on_done, request))
        return future

    def stream(self, items: Iterable[Any], *, max_in_flight: int = 0) -> Generator[Any, None, None]:
        """Answer requests in order, several under way at a time; as `Session.stream`.

        Args:
            max_in_flight: Requests, by default as many as the batches that may be under way hold.
        """
        if max_in_flight < 0:
            raise ValueError(f"max_in_flight must not be negative, got {max_in_flight}")
        limit = max_in_flight or self._max_in_flight * self._batch.size
        return in_order(items, lambda args, kwargs: self.submit(*args, **kwargs), limit)

    def close(self) -> None:
        """Fail the requests that have no answer with `ClusterError`; may be called twice."""
        with self._changed:
            self._is_closed = True
            futures, runs = tuple(self._futures.values()), tuple(self._runs.values())
            self._futures.clear()
            self._inputs.clear()
            self._runs.clear()
            self._changed.notify()
        self._thread.join()
        for future in futures:
            settle(future, error=ClusterError("the batcher is closed"))
        for run in runs:
            run.cancel()

    # What the thread does.

    def _work(self) -> None:
        while True:
            with self._changed:
                while True:
                    if self._is_closed:
                        return
                    now_s = time.monotonic()
                    late = self._gatherer.late(now_s)
                    together = None if late else self._gatherer.take(now_s)
                    if late or together is not None:
                        break
                    wait_s = self._gatherer.next_s - now_s
                    self._changed.wait(None if math.isinf(wait_s) else max(0.0, wait_s))
                inputs = [self._inputs.pop(request) for request in together.requests] if together else []
            for request in late:
                self._give_up(request)
            if together is not None:
                self._begin(together, inputs)

    def _begin(self, together: Together, inputs: Sequence[Mapping[str, Array]]) -> None:
        run: Future[Any]
        try:
            self._on_begin(len(inputs))
            args, kwargs = unflatten_inputs(self._batch.graph, join(self._batch, inputs))
            run = self._backend.submit(*args, **kwargs)
        except Exception as error:  # the session is closed, for example; the thread must go on
            run = Future()
            run.set_exception(error)
        with self._changed:
            is_wanted = not self._is_closed and self._gatherer.is_wanted(together.batch)
            self._runs[together.batch] = run
        run.add_done_callback(functools.partial(self._on_end, together))
        if not is_wanted:
            run.cancel()

    def _give_up(self, request: int) -> None:
        with self._changed:
            what = "its batch began" if self._gatherer.is_waiting(request) else "its batch was answered"
            future = self._futures.get(request)
            run = self._forget(request)
        settle(future, error=DeadlineExceededError(f"request {request} ran out of time before {what}"))
        if run is not None:
            run.cancel()

    # What futures say; no lock is held.

    def _on_end(self, together: Together, run: Future[Any]) -> None:
        with self._changed:
            wanted = {
                request: self._futures.pop(request, None) for request in self._gatherer.end(together.batch)
            }
            self._runs.pop(together.batch, None)
            self._changed.notify()
        error = ClusterError("the batch was cancelled") if run.cancelled() else run.exception()
        if error is not None:
            for future in wanted.values():
                settle(future, error=error)
            return
        outputs = [to_array(output) for output in run.result()]
        answers = split(self._batch, outputs, len(together.requests))
        for request, arrays in zip(together.requests, answers, strict=True):
            if request in wanted:
                settle_answer(wanted[request], self._batch.single, arrays)

    def _on_done(self, request: int, future: Future[Any]) -> None:
        """Forget a request that was cancelled."""
        if not future.cancelled():
            return
        future.set_running_or_notify_cancel()  # wakes the threads that wait for it
        with self._changed:
            run = self._forget(request)
        if run is not None:
            run.cancel()

    def _forget(self, request: int) -> Future[Any] | None:
        """Drop a request; return the run of its batch if that is not wanted any more. The lock is held."""
        self._inputs.pop(request, None)
        self._futures.pop(request, None)
        batch = self._gatherer.drop(request)
        return None if batch is None else self._runs.get(batch)
