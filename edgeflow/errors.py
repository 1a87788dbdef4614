"""The exception tree, named for what the caller can do about it.

    EdgeflowError
    ├── ConfigError (ValueError)          mend the file or the argument
    ├── GraphError (ValueError)           mend or re-capture the model
    │   ├── CyclicGraphError
    │   └── UnsupportedOperatorError
    ├── PlanError
    │   ├── InfeasiblePlanError           add devices or memory; carries the binding constraint
    │   └── InvalidPlanError              the plan breaks its own contract, or belongs to another graph
    ├── ClusterError
    │   ├── WorkerUnreachableError        retry elsewhere
    │   │   ├── PeerLostError             one worker cannot reach another; carries both ranks
    │   │   └── LinkSilentError           a connection that is open carries nothing any more
    │   ├── WorkerOverloadedError         retry later
    │   │   └── WorkerOutOfMemoryError    retry elsewhere
    │   ├── OverloadedError               retry later: too many requests wait
    │   ├── WorkerFailedError             the worker answered with a failure of its own
    │   ├── AccessDeniedError             show the right certificate or join token
    │   ├── StalePlanError                refetch the epoch, then retry
    │   └── DeadlineExceededError         retry with more time, or elsewhere
    └── CodecError (ValueError)           the bytes are not what they should be; do not retry

Every class maps to one process exit code (`exit_code`); see `EXIT_CODES`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

#: The constraint that binds; its amounts' unit in brackets. ``memory``: a device does not hold its part
#: (bytes). ``latency``: the plan is sure to take longer than the search can use (seconds). ``link``: devices
#: that must exchange data are not connected. ``devices``: no device is left, or no plan was found for them.
#: ``plans``: a strategy that tries all plans would have to try too many (a count).
Constraint = Literal["memory", "latency", "link", "devices", "plans"]


class EdgeflowError(Exception):
    """Base of everything that edgeflow raises on purpose."""

    exit_code: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy by message and fields; constructors may ask for more than the message."""
        return _copied, (type(self), self.args, vars(self))


def _copied(cls: type[EdgeflowError], args: tuple[Any, ...], fields: dict[str, Any]) -> EdgeflowError:
    error = cls.__new__(cls, *args)
    vars(error).update(fields)
    return error


class ConfigError(EdgeflowError, ValueError):
    """A configuration file or argument is wrong; the message names it and shows the value."""

    exit_code = 3


class GraphError(EdgeflowError, ValueError):
    """A model cannot be captured, or a graph is not well formed."""


class CyclicGraphError(GraphError):
    """The operators of a graph depend on each other in a circle."""


class UnsupportedOperatorError(GraphError):
    """An operator cannot be run exactly by this version; `operator` names it."""

    def __init__(self, message: str, *, operator: str = "") -> None:
        super().__init__(message)
        self.operator = operator


class PlanError(EdgeflowError):
    """Something about a plan."""


class InfeasiblePlanError(PlanError):
    """No plan satisfies the constraints.

    Attributes:
        constraint: The constraint that binds.
        required: Amount needed, in the constraint's unit; None where it has none.
        available: Amount available, in the same unit.
        device: Name of the device that lacks it, or empty.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        constraint: Constraint,
        required: float | None = None,
        available: float | None = None,
        device: str = "",
    ) -> None:
        super().__init__(message)
        self.constraint = constraint
        self.required = required
        self.available = available
        self.device = device


class InvalidPlanError(PlanError, ValueError):
    """A plan does not cover its graph, breaks precedence, or belongs to another graph."""

    exit_code = 3


class ClusterError(EdgeflowError):
    """Something about the running cluster."""

    exit_code = 5


class WorkerUnreachableError(ClusterError):
    """A worker could not be reached, or went away."""


class PeerLostError(WorkerUnreachableError):
    """A worker has lost, or cannot reach, another one.

    Attributes:
        rank: The worker that reports the loss.
        peer: The worker that it cannot reach.
        is_broken: Whether bytes came that were not what was sent, rather than none.
        is_silent: Whether what was sent was not acknowledged, rather than the connection closed.
    """

    def __init__(
        self,
        message: str,
        *,
        rank: int = -1,
        peer: int = -1,
        is_broken: bool = False,
        is_silent: bool = False,
    ) -> None:
        super().__init__(message)
        self.rank = rank
        self.peer = peer
        self.is_broken = is_broken
        self.is_silent = is_silent


class LinkSilentError(WorkerUnreachableError):
    """The machine at the other end of a connection acknowledges nothing; the packets are lost on the way."""


class WorkerOverloadedError(ClusterError):
    """A worker is full: its memory or its queue."""


class WorkerOutOfMemoryError(WorkerOverloadedError):
    """A worker could not allocate what a request needs."""


class OverloadedError(ClusterError):
    """More requests wait than may; nothing was begun, so it may be asked again later."""


class WorkerFailedError(ClusterError):
    """A worker reports that it could not do what it was asked to do."""

    exit_code = 1


class AccessDeniedError(ClusterError):
    """The caller has not shown what it takes: a join token, or the proof of an epoch."""

    exit_code = 3


class StalePlanError(ClusterError):
    """The epoch named in a call is not the one that the worker holds."""


class DeadlineExceededError(ClusterError):
    """An answer did not arrive in time."""


class CodecError(EdgeflowError, ValueError):
    """Bytes from a file or from the wire are malformed, too large, or of an unknown kind."""


EXIT_CODES: Final = {
    0: "ok",
    1: "failed",
    2: "usage",
    3: "bad config",
    4: "infeasible",
    5: "cluster unreachable",
    130: "interrupted",
}
