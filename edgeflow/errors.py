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
    │   │   └── LinkSilentError           an open connection on which nothing is acknowledged
    │   ├── WorkerOverloadedError         retry later
    │   │   └── WorkerOutOfMemoryError    retry elsewhere
    │   ├── OverloadedError               retry later: too many requests wait
    │   ├── WorkerFailedError             the worker reports a failure of its own
    │   ├── AccessDeniedError             show the right certificate or join token
    │   ├── StalePlanError                refetch the epoch, then retry
    │   └── DeadlineExceededError         retry with more time, or elsewhere
    └── CodecError (ValueError)           the bytes are malformed; do not retry

Every class maps to one process exit code (`exit_code`); see `EXIT_CODES`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

#: The binding constraint, with the unit of its amounts. ``memory``: a device cannot hold its part
#: (bytes). ``latency``: the plan certainly takes longer than the search can use (seconds). ``link``: devices
#: that must exchange data are not connected. ``devices``: no device is left, or no plan was found for them.
#: ``plans``: an exhaustive strategy would have to try too many plans (a count).
Constraint = Literal["memory", "latency", "link", "devices", "plans"]


class EdgeflowError(Exception):
    """Base of everything that edgeflow raises on purpose."""

    exit_code: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy message and fields without the constructor, which may require more than the message."""
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
    """The operators of a graph form a cycle."""


class UnsupportedOperatorError(GraphError):
    """An operator cannot be run exactly by this version; `operator` names it."""

    def __init__(self, message: str, *, operator: str = "") -> None:
        super().__init__(message)
        self.operator = operator


class PlanError(EdgeflowError):
    """Base of errors about plans."""


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
    """Base of errors about the running cluster."""

    exit_code = 5


class WorkerUnreachableError(ClusterError):
    """A worker could not be reached, or went away."""


class PeerLostError(WorkerUnreachableError):
    """A worker has lost its connection to another one, or cannot reach it.

    Attributes:
        rank: Rank that reports the loss.
        peer: Rank that it cannot reach.
        is_broken: Whether corrupt bytes arrived, rather than none.
        is_silent: Whether sent bytes were not acknowledged, rather than the connection closed.
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
    """Too many requests wait; this one was not begun and may be sent again later."""


class WorkerFailedError(ClusterError):
    """A worker reports that a call failed."""

    exit_code = 1


class AccessDeniedError(ClusterError):
    """The caller has not shown the required credentials: a join token, or the proof of an epoch."""

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
