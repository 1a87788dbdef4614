"""One model behind both doors: admits requests, waits for their answers, ends those that nobody waits for."""

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

#: Requests in flight beyond which the server says that it is overloaded.
DEFAULT_LIMIT: Final = 64


class Backend(Protocol):
    """What answers: a session of `edgeflow.deploy`, or a batcher before one."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]: ...


class ModelService:
    """A model that is served.

    Args:
        name: By which clients ask for it.
        graph: Of the model.
        backend: Answers requests; cancelling one of its futures must end the request.
        timeout_s: Of a request, where it does not bring a shorter one.
        limit: Requests that may be in flight; further ones are refused at once.
        is_ready: Whether the backend answers.
        metrics: Where to count, if the backend counts there too.
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
            raise ConfigError(f"at least 1 request must be admitted at a time, got {limit}")
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
        ready = not self.is_closing and self._is_ready()
        self.metrics.ready.set(ready)
        return ready

    def is_called(self, name: str, version: str = "") -> bool:
        """Whether this is the model that somebody asks for."""
        return name == self.name and version in ("", self.version)

    async def infer(
        self, inputs: Mapping[str, Array], *, timeout_s: float | None, protocol: str
    ) -> dict[str, Array]:
        """Answer one request; if the caller is cancelled, so is the request.

        Args:
            timeout_s: The request's own limit, if it has one.
            protocol: For the metrics.

        Returns:
            Every output by name.

        Raises:
            WorkerOverloadedError: If as many requests as allowed are in flight.
            DeadlineExceededError: If there is no answer in time.
            EdgeflowError: What the backend raises.
        """
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        started_s = time.monotonic()
        with self._counted(protocol):
            args, kwargs = unflatten_inputs(self._graph, inputs)
            # A submission may wait for a lock while a plan is replaced; others must not wait for that.
            future = await asyncio.to_thread(self._backend.submit, *args, **kwargs)
            try:
                async with asyncio.timeout(max(0.0, limit_s - (time.monotonic() - started_s))):
                    answer = await asyncio.wrap_future(future)
            except TimeoutError as error:
                raise DeadlineExceededError(f"no answer in {limit_s:.3f} s") from error
            finally:
                # No effect on one that is done; ends one whose caller has left or whose time is up.
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
    """What a client is told: our own words, or none at all."""
    if isinstance(error, EdgeflowError):
        return str(error)
    logger.error("request.failed", exc_info=error)
    return "internal error; see the server's log"
