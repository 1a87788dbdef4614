"""Observations, and the protocol of a balancer that receives them."""

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
        device: The device that computed or sent; for a request, the source.
        peer: The receiver of a transfer.
        stop_s: When it ended.
        expected_s: The cost model's prediction, on an idle cluster at its usual speed; 0 for a probe or a
            request.
        num_bytes: Size of a transferred frame.
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
    """Watches durations and may ask for another plan. The caller passes the time to each method."""

    def switched(self, plan: Plan, cluster: Cluster, now_s: float) -> None:
        """Record that ``plan`` answers requests from now on; ``cluster`` holds the known devices."""

    def observe(self, observations: Sequence[Observation]) -> None:
        """Add durations, in the order in which they ended."""

    def decide(self, now_s: float) -> Plan | None:
        """Return a plan to switch to, or None to keep the running one."""
