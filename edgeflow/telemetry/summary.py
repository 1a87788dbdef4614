"""Summary of a trace: how long each rank computed, transferred and waited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edgeflow.telemetry.trace import TraceEvent

Span = tuple[float, float]


class RankSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one rank in a trace.

    Attributes:
        compute_s: Time in which it ran kernels, or copied and summed received tensors.
        transfer_s: Time in which it sent or received, including the wait for the peer. It overlaps
            ``compute_s`` if both happened at once.
        waiting_s: The rest of the trace, in which it neither computed nor copied.
        makespan_s: From the first event of any rank to the last.
    """

    rank: int
    compute_s: float
    transfer_s: float
    waiting_s: float
    makespan_s: float

    @property
    def busy_share(self) -> float:
        """Share of the trace in which it computed, 0 to 1."""
        return self.compute_s / self.makespan_s if self.makespan_s else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the trace in which it did not compute, 0 to 1."""
        return self.waiting_s / self.makespan_s if self.makespan_s else 0.0


def summarise(events: Iterable[TraceEvent]) -> Mapping[int, RankSummary]:
    """Return each rank's busy and waiting time, by rank.

    Overlapping events of one rank count once: a device that sends while it computes is as busy as one that
    only computes.

    Notes:
        O(n log n) in the number of events.
    """
    events = list(events)
    if not events:
        return {}
    makespan_s = max(event.stop_s for event in events) - min(event.start_s for event in events)
    return {
        rank: _summarise_rank(rank, [event for event in events if event.rank == rank], makespan_s)
        for rank in sorted({event.rank for event in events})
    }


def _summarise_rank(rank: int, events: list[TraceEvent], makespan_s: float) -> RankSummary:
    compute_s = covered(
        (event.start_s, event.stop_s) for event in events if event.kind in ("compute", "assemble")
    )
    transfer_s = covered(
        (event.start_s, event.stop_s) for event in events if event.kind in ("send", "receive")
    )
    return RankSummary(
        rank=rank,
        compute_s=compute_s,
        transfer_s=transfer_s,
        waiting_s=max(0.0, makespan_s - compute_s),
        makespan_s=makespan_s,
    )


def covered(spans: Iterable[Span]) -> float:
    """Return the length of the union of spans.

    Examples:
        >>> covered([(0, 2), (1, 3), (5, 6)])
        4.0
    """
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
