"""One trace schema for predictions, the simulator and workers, so that their traces can be compared.

A trace is a sequence of `TraceEvent` in any order. Times are seconds from the start of the trace, on one
clock: code that gathers events of several machines converts them to one clock first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

Kind = Literal["compute", "send", "receive", "assemble"]

KINDS: Final[tuple[Kind, ...]] = ("compute", "send", "receive", "assemble")

#: Rank of the process that sends the inputs and receives the outputs.
CLIENT: Final = -1


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An action of one rank, or a wait.

    Attributes:
        rank: The device; -1 is the client.
        lane: The part of the device that was busy, for example ``cpu`` or ``network``. Events of one lane do
            not overlap within one request.
        name: Displayed name: an operator, or a tensor and its peer.
        kind: ``compute`` runs kernels, ``assemble`` copies or sums, ``send`` and ``receive`` move a tensor.
            A ``receive`` includes the wait for its frame.
        stage: Name of the plan's stage.
        start_s: From the start of the trace.
        stop_s: From the start of the trace; not before ``start_s``.
        request: Number of the request.
    """

    rank: int
    lane: str
    name: str
    kind: Kind
    stage: str
    start_s: float
    stop_s: float
    request: int = 0

    @property
    def duration_s(self) -> float:
        return self.stop_s - self.start_s


def rank_name(rank: int, rank_names: Mapping[int, str] | Sequence[str] = ()) -> str:
    """Return the displayed name of a rank: its device's name, ``client``, or for instance ``rank 3``.

    Examples:
        >>> rank_name(0, ["nuc", "pi4"]), rank_name(-1), rank_name(3)
        ('nuc', 'client', 'rank 3')
    """
    if isinstance(rank_names, Mapping):
        found = rank_names.get(rank)
    else:
        found = rank_names[rank] if 0 <= rank < len(rank_names) else None
    if found is not None:
        return found
    return "client" if rank == CLIENT else f"rank {rank}"


def requests(events: Iterable[TraceEvent]) -> tuple[int, ...]:
    """Return the numbers of all requests in the trace, in order."""
    return tuple(sorted({event.request for event in events}))


def only_request(events: Iterable[TraceEvent], request: int) -> tuple[TraceEvent, ...]:
    """Return the events of one request, with the first one's start moved to 0."""
    chosen = [event for event in events if event.request == request]
    origin = min((event.start_s for event in chosen), default=0.0)
    return tuple(
        msgspec.structs.replace(event, start_s=event.start_s - origin, stop_s=event.stop_s - origin)
        for event in chosen
    )


def chrome_trace(
    events: Iterable[TraceEvent], rank_names: Mapping[int, str] | Sequence[str] = ()
) -> dict[str, Any]:
    """Return a trace in the Chrome trace event format: one process per device, one thread per lane.

    Times are in microseconds. The client comes before the devices.
    """
    ordered = sorted(events, key=lambda event: (event.start_s, event.rank, event.lane, event.name))
    lanes = sorted({(event.rank, event.lane) for event in ordered})
    thread = {lane: index for index, lane in enumerate(lanes)}
    metadata = [
        _metadata("process_name", rank, name=rank_name(rank, rank_names))
        for rank in sorted({rank for rank, _ in lanes})
    ]
    metadata += [
        _metadata("process_sort_index", rank, sort_index=rank) for rank in sorted({rank for rank, _ in lanes})
    ]
    metadata += [_metadata("thread_name", rank, thread[rank, lane], name=lane) for rank, lane in lanes]
    slices = [
        {
            "ph": "X",
            "pid": _process(event.rank),
            "tid": thread[event.rank, event.lane],
            "ts": event.start_s * 1e6,
            "dur": event.duration_s * 1e6,
            "name": event.name,
            "cat": event.kind,
            "args": {"stage": event.stage, "request": event.request},
        }
        for event in ordered
    ]
    return {"displayTimeUnit": "ms", "traceEvents": [*metadata, *slices]}


def write_chrome_trace(
    path: str | Path, events: Iterable[TraceEvent], rank_names: Mapping[int, str] | Sequence[str] = ()
) -> None:
    """Write a trace that Perfetto and Chrome's ``about:tracing`` open.

    Args:
        path: The file to write; its folder must exist.
        events: In any order.
        rank_names: Names of the devices, by rank or in rank order.
    """
    text = json.dumps(chrome_trace(events, rank_names), separators=(",", ":"))
    Path(path).write_text(text + "\n", encoding="utf-8")


def _process(rank: int) -> int:
    # Process ids must not be negative, and 0 means "unknown" to some viewers: the client becomes 1.
    return rank + 2


def _metadata(what: str, rank: int, thread: int = 0, **args: str | int) -> dict[str, Any]:
    return {"ph": "M", "pid": _process(rank), "tid": thread, "name": what, "args": args}
