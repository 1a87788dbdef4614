"""The report of a simulated run: latencies, throughput, energy, records of requests and plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from edgeflow.telemetry import TraceEvent

_SHARES = (50, 90, 95, 99, 100)


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    Attributes:
        arrival_s: When it arrived.
        answer_s: When its answer was complete; NaN if it was never answered.
        plan: Number of the plan that answered it; 0 is the first, and 0 if it was never answered.
        way: Number of the way in that plan; 0 if it was never answered.
        attempts: How often it was begun: 1, plus once for each time that a lost device interrupted it.
    """

    number: int
    arrival_s: float
    answer_s: float
    plan: int
    way: int
    attempts: int

    @property
    def latency_s(self) -> float:
        return self.answer_s - self.arrival_s


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """A change of plans, or a failed attempt at one.

    Attributes:
        time_s: When the plan began to take requests, or when planning failed.
        reason: ``start``, ``lost NAME``, ``joined NAME`` or ``balancer``.
        strategy, chosen: The plan's; empty if no plan was found.
        predicted_latency_s: As the plan says; NaN if no plan was found.
        problem: Why no plan was found, else empty.
    """

    time_s: float
    reason: str
    strategy: str = ""
    chosen: str = ""
    predicted_latency_s: float = math.nan
    problem: str = ""


class SimulationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a simulated run. Latencies are those of answered requests.

    Attributes:
        latency_s: Mean over requests, from arrival to the complete answer.
        p95_latency_s: 95th percentile (nearest rank).
        percentiles_s: Percentage -> latency that this percentage of the requests did not exceed.
        throughput_per_s: Requests answered per second, from the first arrival to the last answer.
        makespan_s: From the first arrival to the last answer.
        energy_j: Modelled energy of every device while it was present, idle power included.
        transferred_bytes: Over links between hosts, all requests together, replays included.
        peak_memory_bytes: Device name -> weights and buffers of one request on each way, for the plan that
            needed most.
        busy_share: Device name -> share of the run in which it ran kernels.
        resource_busy_share: Resource -> share of the run in which it was occupied: ``processor:<device>``
            (kernels, copies and frames) and the network's, as in `edgeflow.cost.Prediction`.
        latencies_s: Latency of each answered request, in the order of arrival.
        num_replayed: Requests in flight when a device was lost, which were begun again.
        num_lost: Requests that were never answered, because no plan could be made.
        records: One per request, in the order of arrival.
        switches: Plans, and when each took over.
        device_names: Device names by rank, for ``events``.
        events: The timeline, if it was requested.
    """

    latency_s: float
    p95_latency_s: float
    percentiles_s: Mapping[int, float]
    throughput_per_s: float
    makespan_s: float
    energy_j: float
    transferred_bytes: int
    peak_memory_bytes: Mapping[str, int]
    busy_share: Mapping[str, float]
    resource_busy_share: Mapping[str, float]
    latencies_s: tuple[float, ...]
    num_replayed: int = 0
    num_lost: int = 0
    records: tuple[RequestRecord, ...] = ()
    switches: tuple[Switch, ...] = ()
    device_names: tuple[str, ...] = ()
    events: tuple[TraceEvent, ...] = ()

    @property
    def timelines(self) -> Mapping[str, tuple[TraceEvent, ...]]:
        """Device name (``client`` for the client) -> its events; empty unless they were requested."""
        found: dict[str, list[TraceEvent]] = {}
        for event in self.events:
            name = "client" if event.rank < 0 else self.device_names[event.rank]
            found.setdefault(name, []).append(event)
        return {name: tuple(events) for name, events in sorted(found.items())}


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the least value that ``share`` percent of all do not exceed.

    Args:
        ordered: At least one value, in increasing order.
        share: More than 0, at most 100.

    Examples:
        >>> percentile([1.0, 2.0, 3.0, 4.0], 50), percentile([1.0, 2.0, 3.0, 4.0], 51)
        (2.0, 3.0)
    """
    return ordered[max(0, math.ceil(share * len(ordered) / 100) - 1)]


def percentiles(values: Sequence[float]) -> dict[int, float]:
    """Return the percentiles of a report for at least one value."""
    ordered = sorted(values)
    return {share: percentile(ordered, share) for share in _SHARES}
