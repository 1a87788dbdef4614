"""Estimates of every device's and link's speed, derived from the latency history."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Final

import msgspec

from edgeflow.balancer.history import Estimate, LatencyHistory
from edgeflow.cluster.cluster import Cluster, Link
from edgeflow.cost.model import ANY_FAMILY, CostModel

#: A link is corrected if a frame of this size takes longer than expected by both this factor and this many
#: seconds: smaller differences are within the error of clocks on different machines.
_FRAME_BYTES: Final = 100_000
_LINK_FACTOR: Final = 1.5
_LINK_MIN_S: Final = 1e-3

#: Standard errors (of the natural logarithm) of estimates from probes, and of the usual ratio.
_OF_PROBE: Final = 0.03
_OF_USUAL: Final = 0.06

#: A ratio whose natural logarithm differs by more than this plus its error counts as changed.
_STEP: Final = 0.1

#: Number of values after which the usual ratio is settled.
_ENOUGH: Final = 25

#: Probes whose natural logarithms differ by less count as equal.
_SAME_PROBE: Final = 0.12

#: If a device rejoined the plan because of its probe and then takes this many times the estimate, its probe
#: baseline was wrong.
_MISLED: Final = 1.3


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate for one device.

    Attributes:
        ratio: Measured kernel time / predicted kernel time.
        error: Standard error of its natural logarithm.
        source: ``kernels`` or ``probe``: the kind of recent observation; ``usual`` if there is none.
        families: The ratio by family of operators, where it is known.
    """

    ratio: float
    error: float
    source: str
    families: dict[str, float] = {}


class _Anchor(msgspec.Struct, frozen=True):
    """A probe's duration, and the ratio of kernels at the same time."""

    probe_s: float
    ratio: float


class _Before(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate for a device while the previous graph ran.

    Attributes:
        change: Its ratio / its usual ratio.
        heard_s: Time of its last observation.
    """

    change: float
    source: str
    heard_s: float


class Beliefs:
    """Estimates device and link speeds from a history.

    A device in the plan is measured by its kernels. A device outside the plan is measured by probes, compared
    with its baseline: the probe before the first request, which corresponds to the ratio of its kernels in
        the
    first plan that used it. Without recent observations it is assumed to be at its usual ratio. A device that
    was never used is assumed to have the median of the other devices' usual ratios: a cost model's error is
    mostly a factor common to all devices.

    Args:
        forget_s: An observation older than this says nothing about the present.
        is_exact: Costs are right for devices at their usual speed, so that the usual ratio is 1.
    """

    def __init__(self, history: LatencyHistory, *, forget_s: float, is_exact: bool = False) -> None:
        self._history = history
        self._is_exact = is_exact
        self._forget_s = forget_s
        self._usual: dict[str, float] = {}
        #: Devices whose usual ratio is final.
        self._settled: set[str] = set()
        self._baseline_s: dict[str, float] = {}
        #: The first probe after the device's last kernels, with the ratio of these kernels.
        self._last: dict[str, _Anchor] = {}
        self._anchored_s: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._misled: set[str] = set()
        #: Device -> its estimate from the previous graph, used until it is observed again.
        self._before: dict[str, _Before] = {}

    def update(self, devices: Iterable[str]) -> None:
        """Update baselines and usual ratios from the history."""
        for device in devices:
            seen = self._history.estimate(device)
            if seen is not None:
                self._learn_usual(device, seen)
                if device in self._expected and seen.ratio > _MISLED * self._expected.pop(device):
                    self._misled.add(device)
            probe = self._probe(device, seen) or self._history.probe(device)
            if probe is None:
                continue
            seconds, probed_s = probe
            if seen is None and device not in self._anchored_s:
                self._baseline_s[device] = min(seconds, self._baseline_s.get(device, math.inf))
            self._baseline_s.setdefault(device, seconds)
            if seen is not None and probed_s > seen.seen_s > self._anchored_s.get(device, -math.inf):
                self._anchored_s[device] = seen.seen_s
                self._last[device] = _Anchor(seconds, seen.ratio)

    def _probe(self, device: str, seen: Estimate | None) -> tuple[float, float] | None:
        """Return the probes since the device's last kernels; earlier ones describe its state before these."""
        before = self._before.get(device)
        if seen is not None:
            return self._history.probe(device, since_s=seen.seen_s)
        return self._history.probe(device, since_s=-math.inf if before is None else before.heard_s)

    def _learn_usual(self, device: str, seen: Estimate) -> None:
        """Take the first observed ratio as the usual one; refine it until a step or until enough values."""
        known = self._usual.get(device)
        if known is None:
            before = self._before.pop(device, None)
            is_recent = before is not None and before.heard_s >= seen.seen_s - self._forget_s
            self._usual[device] = seen.ratio / before.change if before and is_recent else seen.ratio
            return
        if device not in self._settled:
            if abs(math.log(seen.ratio / known)) > _STEP + 2 * seen.error:
                self._settled.add(device)
            else:
                self._usual[device] = seen.ratio
                if seen.num_values >= _ENOUGH:
                    self._settled.add(device)
        # Without a probe from that time, only later, quicker kernels show that it was slow at first.
        elif device not in self._baseline_s:
            self._usual[device] = min(known, seen.ratio * math.exp(_STEP + 2 * seen.error))

    def usual(self, device: str) -> float:
        """Return the ratio of a device at its usual speed."""
        if self._is_exact:
            return 1.0
        known = self._usual.get(device)
        if known is not None:
            return known
        return statistics.median(self._usual.values()) if self._usual else 1.0

    def of(self, device: str, now_s: float) -> Belief:
        """Return the estimate for a device at ``now_s``."""
        recent_s = now_s - self._forget_s
        seen = self._history.estimate(device)
        probe = self._probe(device, seen)
        is_probed = probe is not None and probe[1] >= recent_s
        if seen is not None and seen.seen_s >= recent_s and not is_probed:
            return Belief(ratio=seen.ratio, error=seen.error, source="kernels", families=seen.families)
        if is_probed:
            assert probe is not None
            anchor = self._last.get(device) if device in self._misled else None
            if anchor is None:
                anchor = _Anchor(self._baseline_s.get(device, probe[0]), self.usual(device))
            change = probe[0] / anchor.probe_s
            if abs(math.log(change)) < _SAME_PROBE:
                change = 1.0
            return Belief(ratio=anchor.ratio * change, error=_OF_PROBE, source="probe")
        before = self._before.get(device)
        if seen is None and before is not None and before.heard_s >= recent_s:
            return Belief(ratio=self.usual(device) * before.change, error=_OF_USUAL, source=before.source)
        error = 0.0 if self._is_exact else _OF_USUAL
        return Belief(ratio=self.usual(device), error=error, source="usual")

    def adopted(self, devices: Iterable[str], now_s: float) -> None:
        """Record that a plan runs now that uses ``devices``, which the previous plan did not use."""
        self._expected = {}
        for device in devices:
            belief = self.of(device, now_s)
            if belief.source == "probe":
                self._expected[device] = belief.ratio

    def another_graph(self, devices: Iterable[str], now_s: float) -> None:
        """Discard kernel ratios, because a different graph runs now; keep each device's change from usual.

        The cost model's error differs from graph to graph, so neither ratios nor usual ratios carry over. The
        quotient of the two does.
        """
        known = {}
        for device in sorted({*devices, *self._history.devices}):
            belief = self.of(device, now_s)
            if belief.source == "usual":
                continue
            seen, before = self._history.estimate(device), self._before.get(device)
            probe = self._probe(device, seen)
            heard_s = probe[1] if probe else seen.seen_s if seen else before.heard_s if before else now_s
            change = belief.ratio / self.usual(device)
            known[device] = _Before(change=change, source=belief.source, heard_s=heard_s)
        self._before = known
        self._history.forget_kernels()
        for facts in (self._usual, self._settled, self._last, self._expected, self._misled):
            facts.clear()

    def cost(self, cost: CostModel, cluster: Cluster, now_s: float, *, doubt: float = 0.0) -> CostModel:
        """Return costs on ``cluster`` corrected by the estimates at ``now_s``.

        Args:
            cost: Costs that observations were compared with.
            doubt: Assume every device slower by this many standard errors; faster if negative.
        """
        names = {device.name for device in cluster.devices}
        corrections = {name: dict(item) for name, item in cost.corrections.items() if name in names}
        for name in sorted(names):
            belief = self.of(name, now_s)
            shift = math.exp(doubt * belief.error)
            if belief.ratio * shift == 1.0 and not belief.families:
                continue
            mine = corrections.get(name) or {ANY_FAMILY: 1.0}
            factors = {family: value * belief.ratio * shift for family, value in mine.items()}
            for family, ratio in belief.families.items():
                factors[family] = mine.get(family, mine.get(ANY_FAMILY, 1.0)) * ratio * shift
            corrections[name] = factors
        return msgspec.structs.replace(cost, cluster=self.network(cluster, now_s), corrections=corrections)

    def network(self, cluster: Cluster, now_s: float) -> Cluster:
        """Return ``cluster`` with the links replaced that were measured to be slower than it says."""
        names = {device.name: rank for rank, device in enumerate(cluster.devices)}
        links = {(a, b): link for a, b, link in cluster.links}
        changed = False
        for a, b in self._history.links:
            if a not in names or b not in names or not cluster.is_connected(names[a], names[b]) or a == b:
                continue
            link = self._history.link(a, b, since_s=now_s - self._forget_s)
            if link is not None and _differs(link, cluster.link(names[a], names[b])):
                links[a, b] = link
                changed = True
        if not changed:
            return cluster
        return msgspec.structs.replace(cluster, links=tuple((a, b, link) for (a, b), link in links.items()))


def _differs(found: Link, said: Link) -> bool:
    seconds = found.latency_s + _FRAME_BYTES / found.bandwidth_bytes_per_s
    usual_s = said.latency_s + _FRAME_BYTES / said.bandwidth_bytes_per_s
    if abs(seconds - usual_s) < _LINK_MIN_S:
        return False
    # Do not correct a link that looks quicker than the cluster says: the frames may have been easy to
    # deliver.
    return seconds > _LINK_FACTOR * usual_s
