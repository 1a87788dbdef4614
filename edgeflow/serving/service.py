"""Serve one model, whatever the protocol: admit requests, wait for answers, cancel abandoned requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Protocol

from edgeflow.errors import (
    CodecError,
    ConfigError,
    DeadlineExceededError,
    EdgeflowError,
    OverloadedError,
    WorkerOverloadedError,
    WorkerUnreachableError,
)
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import to_array, unflatten_inputs
from edgeflow.serving.metrics import Metrics
from edgeflow.serving.tensors import input_infos, leaves, output_infos

logger = logging.getLogger(__name__)

VERSION: Final = "1"

#: Default limit of requests in flight.
DEFAULT_LIMIT: Final = 64


class Backend(Protocol):
    """Answers requests: a session of `edgeflow.deploy`, or a batcher in front of one."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]: ...


class ModelService:
    """A model that is served.

    Args:
        name: Name of the model for clients.
        graph: Graph of the model.
        backend: Answers requests; cancelling one of its futures must end the request.
        timeout_s: Time limit of a request; a request may ask for a shorter one.
        limit: Limit of requests in flight; further ones are refused at once.
        is_ready: Returns whether the backend can answer requests.
        metrics: Metrics to update, if the backend updates them too; default new ones.

    Raises:
        ConfigError: If ``limit`` is less than 1.
    """

    def __init__(
        self,
        name: str,
        graph: ModelGraph,
        backend: Backend,
        *,
        timeout_s: float,
        limit: int = DEFAULT_LIMIT,
        is_ready: Callable[[], bool] = lambda: True,
        metrics: Metrics | None = None,
    ) -> None:
        if limit < 1:
            raise ConfigError(f"the limit of requests in flight must be at least 1, got {limit}")
        self.name = name
        self.version = VERSION
        self.inputs = input_infos(graph)
        self.outputs = output_infos(graph)
        self.metrics = metrics or Metrics()
        self.metrics.limit.set(limit)
        self._graph = graph
        self._backend = backend
        self._timeout_s = timeout_s
        self._limit = limit
        self._in_flight = 0
        self._is_ready = is_ready
        self.is_closing = False

    @property
    def is_ready(self) -> bool:
        """Whether the service answers requests; also sets the metric."""
        ready = not self.is_closing and self._is_ready()
        self.metrics.ready.set(ready)
        return ready

    def is_called(self, name: str, version: str = "") -> bool:
        """Return whether this is the model that a request names; no version means any."""
        return name == self.name and version in ("", self.version)

    async def infer(
        self, inputs: Mapping[str, Array], *, timeout_s: float | None, protocol: str
    ) -> dict[str, Array]:
        """Return the outputs for one request; if the calling task is cancelled, the request is too.

        Args:
            inputs: Every input by name.
            timeout_s: The request's own time limit, if it has one.
            protocol: Label for the metrics.

        Returns:
            Every output by name.

        Raises:
            WorkerOverloadedError: If the limit of requests in flight is reached.
            WorkerUnreachableError: If the server is closing.
            DeadlineExceededError: If there is no answer in time.
            EdgeflowError: If the backend raises it.
        """
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        started_s = time.monotonic()
        with self._counted(protocol):
            args, kwargs = unflatten_inputs(self._graph, inputs)
            # A submission may wait for a lock while a plan is replaced; do not block the event loop.
            future = await asyncio.to_thread(self._backend.submit, *args, **kwargs)
            try:
                async with asyncio.timeout(max(0.0, limit_s - (time.monotonic() - started_s))):
                    answer = await asyncio.wrap_future(future)
            except TimeoutError as error:
                raise DeadlineExceededError(f"no answer in {limit_s:.3f} s") from error
            finally:
                # Ends a request whose caller has gone or whose time is up; no effect on one that is done.
                future.cancel()
            arrays = [to_array(leaf) for leaf in leaves(answer)]
            self.metrics.duration.labels(protocol).observe(time.monotonic() - started_s)
        return {info.name: array for info, array in zip(self.outputs, arrays, strict=True)}

    @contextmanager
    def _counted(self, protocol: str) -> Iterator[None]:
        outcome = "failed"
        try:
            if self.is_closing:
                raise WorkerUnreachableError("the server is closing")
            if self._in_flight >= self._limit:
                raise WorkerOverloadedError(
                    f"overloaded: {self._limit} requests are in flight; try again later"
                )
            self._in_flight += 1
            self.metrics.in_flight.set(self._in_flight)
            try:
                yield
            finally:
                self._in_flight -= 1
                self.metrics.in_flight.set(self._in_flight)
            outcome = "answered"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except (OverloadedError, WorkerOverloadedError):
            outcome = "overloaded"
            raise
        except DeadlineExceededError:
            outcome = "late"
            raise
        except (ConfigError, CodecError):
            outcome = "refused"
            raise
        finally:
            self.metrics.requests.labels(protocol, outcome).inc()


def sentence(error: Exception) -> str:
    """Return the message for the client; a foreign exception is logged, and gets a neutral message."""
    if isinstance(error, EdgeflowError):
        return str(error)
    logger.error("request.failed", exc_info=error)
    return "internal error; see the server's log"
