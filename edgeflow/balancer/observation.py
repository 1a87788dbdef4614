"""What a balancer sees, and what it may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.plan.plan import Plan


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took.

    Attributes:
        kind: ``compute``: the kernels of one stage. ``transfer``: a frame, queues on its way included.
            ``probe``: a fixed piece of work, the same on every device and at all times. ``request``: a whole
            request, from when the client begins to send it until it has the answer.
        device: Where it ran, or who sent; of a request, the source.
        peer: Who received.
        stop_s: When it ended.
        expected_s: What the cost model says of it, on an idle cluster at its usual speed; 0 for a probe
            or a request.
        num_bytes: Of a frame.
        families: Family of operators -> its part of ``expected_s``; may be left out.
    """

    kind: Literal["compute", "transfer", "probe", "request"]
    device: str
    peer: str = ""
    stop_s: float
    seconds: float
    expected_s: float
    num_bytes: int = 0
    families: Mapping[str, float] = {}


class Balancer(Protocol):
    """Who watches durations and may ask for another plan. Knows no clock but the one that it is told."""

    def switched(self, plan: Plan, cluster: Cluster, now_s: float) -> None:
        """``plan`` answers requests from now on; ``cluster`` is what is known to be there."""

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take note of what has taken how long, in the order in which it ended."""

    def decide(self, now_s: float) -> Plan | None:
        """Return a plan to switch to, or None to go on as it is."""
