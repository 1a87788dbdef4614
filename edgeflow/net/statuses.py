"""The status of each exception class in gRPC and in HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import grpc

from edgeflow import errors
from edgeflow.errors import EdgeflowError

#: Seconds after which a client may repeat a request that was refused with 429.
RETRY_AFTER_S: Final = 1


class Status(NamedTuple):
    """How both protocols report one exception class."""

    grpc: grpc.StatusCode
    http: int


STATUSES: Final[Mapping[type[EdgeflowError], Status]] = {
    errors.EdgeflowError: Status(grpc.StatusCode.UNKNOWN, 500),
    errors.ConfigError: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
    errors.GraphError: Status(grpc.StatusCode.INVALID_ARGUMENT, 500),
    errors.CyclicGraphError: Status(grpc.StatusCode.INVALID_ARGUMENT, 500),
    errors.UnsupportedOperatorError: Status(grpc.StatusCode.UNIMPLEMENTED, 500),
    errors.PlanError: Status(grpc.StatusCode.FAILED_PRECONDITION, 500),
    errors.InfeasiblePlanError: Status(grpc.StatusCode.FAILED_PRECONDITION, 500),
    errors.InvalidPlanError: Status(grpc.StatusCode.INVALID_ARGUMENT, 500),
    errors.ClusterError: Status(grpc.StatusCode.UNAVAILABLE, 503),
    errors.WorkerUnreachableError: Status(grpc.StatusCode.UNAVAILABLE, 503),
    errors.PeerLostError: Status(grpc.StatusCode.UNAVAILABLE, 503),
    errors.LinkSilentError: Status(grpc.StatusCode.UNAVAILABLE, 503),
    errors.WorkerOutOfMemoryError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.OverloadedError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.WorkerOverloadedError: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.WorkerFailedError: Status(grpc.StatusCode.INTERNAL, 500),
    errors.AccessDeniedError: Status(grpc.StatusCode.UNAUTHENTICATED, 503),
    errors.StalePlanError: Status(grpc.StatusCode.ABORTED, 503),
    errors.DeadlineExceededError: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    errors.CodecError: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
}


def mapped_class(cls: type[EdgeflowError]) -> type[EdgeflowError]:
    """Return the nearest class in the table: ``cls`` itself, or a base of it."""
    return next(base for base in cls.__mro__ if base in STATUSES)


def status_of(error: EdgeflowError) -> Status:
    """Return the status of ``error`` in both protocols."""
    return STATUSES[mapped_class(type(error))]
