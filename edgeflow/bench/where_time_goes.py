"""Break down the time of a request on each rank, from its trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeflow.bench.results import RankTime
from edgeflow.telemetry.summary import Span, covered
from edgeflow.telemetry.trace import Kind, TraceEvent


def rank_times(events: Iterable[TraceEvent]) -> tuple[RankTime, ...]:
    """Return where the time of one request went, by rank, the client (-1) first.

    Overlapping time counts once, for the first of: compute, pack, send, wait or wire. A rank waits for work
        while
    any other rank computes, and for the wire while none does.
    """
    events = list(events)
    if not events:
        return ()
    span_s = max(event.stop_s for event in events) - min(event.start_s for event in events)
    return tuple(_rank_time(rank, events, span_s) for rank in sorted({event.rank for event in events}))


def _rank_time(rank: int, events: Sequence[TraceEvent], span_s: float) -> RankTime:
    own = [event for event in events if event.rank == rank]
    compute, pack = _spans(own, "compute"), _spans(own, "assemble")
    send, receive = _spans(own, "send"), _spans(own, "receive")
    others = _spans([event for event in events if event.rank != rank], "compute", "assemble")
    busy = [*compute, *pack, *send]
    receiving_s = covered([*busy, *receive]) - covered(busy)
    wire_s = covered([*busy, *others, *receive]) - covered([*busy, *others])
    return RankTime(
        rank=rank,
        compute_s=covered(compute),
        pack_s=covered([*compute, *pack]) - covered(compute),
        send_s=covered(busy) - covered([*compute, *pack]),
        wait_s=receiving_s - wire_s,
        wire_s=wire_s,
        python_s=span_s - covered([*busy, *receive]),
    )


def _spans(events: Iterable[TraceEvent], *kinds: Kind) -> list[Span]:
    return [(event.start_s, event.stop_s) for event in events if event.kind in kinds]
