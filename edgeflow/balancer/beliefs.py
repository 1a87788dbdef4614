"""What is believed of every device and link now, out of the latency history."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Final

import msgspec

from edgeflow.balancer.history import Estimate, LatencyHistory
from edgeflow.cluster.cluster import Cluster, Link
from edgeflow.cost.model import ANY_FAMILY, CostModel

#: A link is corrected if a frame of this size takes so many times, and so much, longer or shorter than it
#: should: less is within what clocks of different machines tell.
_FRAME_BYTES: Final = 100_000
_LINK_FACTOR: Final = 1.5
_LINK_MIN_S: Final = 1e-3

#: Standard errors of what probes say, and of what is taken to be usual.
_OF_PROBE: Final = 0.03
_OF_USUAL: Final = 0.06

#: A ratio that differs by more (of its natural logarithm), beside its error, is not that of before.
_STEP: Final = 0.1

#: Values that the usual ratio is settled after.
_ENOUGH: Final = 25

#: Probes that differ by less (of their natural logarithm) are taken to be the same.
_SAME_PROBE: Final = 0.12

#: A device that came back on a probe's word and takes so much longer than was believed has misled us.
_MISLED: Final = 1.3


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed of one device.

    Attributes:
        ratio: Times of what the cost model says that its kernels take.
        error: Standard error of its natural logarithm.
        source: ``kernels``, ``probe``, or ``usual``: where nothing of late was seen.
    """

    ratio: float
    error: float
    source: str
    families: dict[str, float] = {}


class _Anchor(msgspec.Struct, frozen=True):
    """A probe took ``probe_s`` when kernels took ``ratio``."""

    probe_s: float
    ratio: float


class _Before(msgspec.Struct, frozen=True, kw_only=True):
    """What was believed of a device while kernels of another graph ran.

    Attributes:
        change: Its ratio, in times of its usual one.
        heard_s: When it was last heard of.
    """

    change: float
    source: str
    heard_s: float


class Beliefs:
    """Follows a history.

    A device in the plan is known by its kernels. One that is not is known by probes, compared with its own
    baseline: the probe before the first request, which goes with what its kernels took in the first plan that
    used it. Where there are no probes, it is taken to be as usual after a while. For a device that was never
    used, what is usual for the others counts: a cost model that is wrong by a factor is mostly wrong by the
    same one everywhere, so that only what is left of the ratios after it tells devices apart.

    Args:
        is_exact: Costs are right for devices at their usual speed, so that the usual ratio is 1.
    """

    def __init__(self, history: LatencyHistory, *, forget_s: float, is_exact: bool = False) -> None:
        self._history = history
        self._is_exact = is_exact
        self._forget_s = forget_s
        self._usual: dict[str, float] = {}
        #: Devices whose usual ratio rests on enough to be left as it is.
        self._settled: set[str] = set()
        self._baseline_s: dict[str, float] = {}
        #: The first probe after the device was last seen to compute, with what its kernels took then.
        self._last: dict[str, _Anchor] = {}
        self._anchored_s: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._misled: set[str] = set()
        #: Device -> what is believed of it until it is heard of.
        self._before: dict[str, _Before] = {}

    def update(self, devices: Iterable[str]) -> None:
        """Take note of what the history says now."""
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
        """What probes say since the device was last seen to compute: those before say how it was then."""
        before = self._before.get(device)
        if seen is not None:
            return self._history.probe(device, since_s=seen.seen_s)
        return self._history.probe(device, since_s=-math.inf if before is None else before.heard_s)

    def _learn_usual(self, device: str, seen: Estimate) -> None:
        """The first level that a device shows is its usual one; it is refined until a step, or well known."""
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
        # Without a probe from that time, nothing else tells that it was slow when it was first seen.
        elif device not in self._baseline_s:
            self._usual[device] = min(known, seen.ratio * math.exp(_STEP + 2 * seen.error))

    def usual(self, device: str) -> float:
        if self._is_exact:
            return 1.0
        known = self._usual.get(device)
        if known is not None:
            return known
        return statistics.median(self._usual.values()) if self._usual else 1.0

    def of(self, device: str, now_s: float) -> Belief:
        """What is believed of a device."""
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
        """A plan with these ``devices``, that the one before did not use, runs now."""
        self._expected = {}
        for device in devices:
            belief = self.of(device, now_s)
            if belief.source == "probe":
                self._expected[device] = belief.ratio

    def another_graph(self, devices: Iterable[str], now_s: float) -> None:
        """Kernels of another graph run from now on.

        A cost model is wrong by one factor for one graph and by another for the next, so ratios of the two
        must not be compared, nor what is usual. By how much devices are slower than usual is true of both.
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
        """Costs on ``cluster`` as believed now.

        Args:
            cost: Costs that observations were compared with.
            doubt: Standard errors that every device is taken to be slower by; negative for faster.
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
        """``cluster`` with the links that were seen to be others than it says."""
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
    # A link that is quicker than it was said to be is left as it is: frames may have been cheap to deliver.
    return seconds > _LINK_FACTOR * usual_s
