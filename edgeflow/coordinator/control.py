"""The control plane as the coordinator sees it: what can be asked of one worker.

`edgeflow.coordinator.client` asks over gRPC. Tests and other engines bring their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from edgeflow.graph.ir import Array
from edgeflow.net.content import Content
from edgeflow.plan.program import Program


class Description(NamedTuple):
    """A worker's description of itself.

    Attributes:
        clock_offset_s: Its monotonic clock minus ours, within half of the shortest round trip.
        round_trip_s: The shortest one measured.
        data_ports: Transport -> port on its host, of the transports that it offers besides gRPC.
    """

    name: str
    version: str
    executor: str
    num_threads: int
    memory_limit_bytes: int
    clock_offset_s: float
    round_trip_s: float
    data_ports: Mapping[str, int]


class Report(NamedTuple):
    """A worker's records: request -> ``(position of the instruction, start_s, stop_s)``, by its clock."""

    requests: Mapping[int, list[tuple[int, float, float]]]
    peak_memory_bytes: int


class Pong(NamedTuple):
    """The answer to a ping; ``instance`` changes when the worker restarts."""

    instance: str
    num_active_requests: int


class Control(Protocol):
    """Calls one worker. Each call ends within its ``timeout_s``, and raises a `ClusterError` if it fails."""

    @property
    def address(self) -> str:
        """Where the worker is reached."""

    def describe(self, *, timeout_s: float) -> Description:
        """Ask a worker to describe itself, and wait for it to come up if it is not up yet.

        Raises:
            WorkerUnreachableError: If nobody answers within ``timeout_s``.
            WorkerFailedError: If it speaks another version of the frame format.
        """

    def held_epochs(self, *, timeout_s: float) -> tuple[int, ...]:
        """Ask which epochs the worker holds."""

    def prepare(
        self,
        epoch: int,
        program: Program,
        *,
        fingerprint: str,
        peers: Mapping[int, str],
        contents: Iterable[Content],
        key: bytes,
        timeout_s: float,
    ) -> tuple[str, ...]:
        """Send a program; return the hashes of the weights to send.

        Args:
            peers: Rank -> routes of the workers that take part.
            contents: Of the program's weight slices, in its order.
            key: Of the epoch; its holders may connect, see `edgeflow.net.proof`.
        """

    def load(self, epoch: int, slices: Iterable[tuple[Content, Array]], *, timeout_s: float) -> None:
        """Send weights, and have the program compiled.

        Args:
            slices: Each is made when its turn comes.
        """

    def commit(self, epoch: int, *, timeout_s: float) -> None:
        """Let the worker connect to its peers and take requests."""

    def abort(self, epoch: int, *, timeout_s: float) -> None:
        """Let the worker forget an epoch at once."""

    def release(self, epoch: int, *, timeout_s: float) -> None:
        """Let the worker forget an epoch when its last request has ended."""

    def report(self, epoch: int, *, min_request_id: int, timeout_s: float) -> Report:
        """Ask for the records of finished requests."""

    def ping(self, epochs: Iterable[int], *, timeout_s: float) -> Pong:
        """Ask whether the worker is up, and renew its leases on these epochs."""

    def probe(self, duration_s: float, *, timeout_s: float) -> float:
        """Return the seconds that a fixed piece of work takes, tried for ``duration_s``."""

    def cancel(self) -> None:
        """End the call under way, and refuse all but `abort` and `release` from now on; from any thread."""

    def close(self) -> None: ...


#: Makes the `Control` of the worker at an address, which has a rank that messages name.
ControlFactory = Callable[[str, int], Control]
