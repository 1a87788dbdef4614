"""The latency history: what devices and links were seen to do, and what that says of them now.

A duration is compared with what the cost model expects of the same piece of work, so what is kept is a
logarithm of a ratio, per device and piece of work (a stage's kernels). A device's ratio is that of sums over
its pieces of work: it says what the plan as a whole takes there, however unequal its stages are.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from edgeflow.balancer.observation import Observation
from edgeflow.balancer.series import MIN_VALUES, Series
from edgeflow.cluster.cluster import Link

#: Frames of one size on one link that are remembered.
_FRAMES: Final = 25

#: Probes of a device that its speed is taken from, so that one may be disturbed.
PROBES: Final = 3

#: Requests that are remembered.
_REQUESTS: Final = 64

#: Quantile of these that stands for an idle link: the longer ones have waited for each other.
_IDLE: Final = 0.25

#: Frames that a link must have carried before it is judged.
_MIN_FRAMES: Final = 10


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What kernels take on a device.

    Attributes:
        ratio: Times of what the cost model expects.
        error: Standard error of its natural logarithm.
        families: The same ratio by family of operators, where observations tell them apart.
        num_values: Observations that it rests on.
        seen_s: When the last of them ended.
    """

    ratio: float
    error: float
    num_values: int
    seen_s: float
    families: dict[str, float] = {}


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request took.

    Attributes:
        seconds: From when the client began to send it until it had the answer.
        own_s: The part of it after the answer before: what it took where one follows the other, and where
            several are under way, what it kept the plan busy, without its waiting for the others.
    """

    seconds: float
    own_s: float


#: Durations of so much time are averaged before anything else: a processor that is rationed (a quota of a
#: control group, a scheduler's slice) makes most kernels as quick as ever and some very slow, and only the
#: mean says how slow the device is.
BLOCK_S: Final = 0.25


class _Work:
    """One piece of work on one device."""

    def __init__(self, first: Observation) -> None:
        self.series = Series()
        self.expected_s = first.expected_s
        self.families = first.families
        self.seen_s = first.stop_s
        self.times_s: deque[float] = deque(maxlen=20)
        self._block_s = first.stop_s
        self._block: list[float] = []

    def add(self, item: Observation) -> None:
        if self._block and item.stop_s >= self._block_s + BLOCK_S:
            self.series.add(math.log(max(statistics.fmean(self._block), 1e-9) / item.expected_s))
            self._block.clear()
        if not self._block:
            self._block_s = item.stop_s
        self._block.append(item.seconds)
        self.seen_s = item.stop_s
        self.times_s.append(item.stop_s)


class LatencyHistory:
    """Durations of kernels, frames and probes, per device and link."""

    def __init__(self) -> None:
        self._work: dict[str, dict[tuple[float, tuple[str, ...]], _Work]] = {}
        #: The latest: when each ended, and its seconds.
        self._probes: dict[str, deque[tuple[float, float]]] = {}
        self._frames: dict[tuple[str, str], dict[int, deque[float]]] = {}
        self._sent_s: dict[tuple[str, str], float] = {}
        self._since_s = -math.inf
        #: Whole requests on the present plan, oldest first.
        self.requests: deque[Answered] = deque(maxlen=_REQUESTS)
        self._answered_s = -math.inf

    def switched(self, now_s: float) -> None:
        """Another plan runs: what the one before made devices do is believed until there is newer word."""
        self._since_s = now_s
        self.requests.clear()

    def forget_kernels(self) -> None:
        """Those that run from now on are others, of which the ones before say nothing."""
        self._work.clear()

    def add(self, observations: Iterable[Observation]) -> None:
        """Take note of durations, in the order in which they ended."""
        for item in observations:
            if item.kind == "compute" and item.expected_s > 0:
                pieces = self._work.setdefault(item.device, {})
                key = (item.expected_s, tuple(sorted(item.families)))
                if key not in pieces:
                    pieces[key] = _Work(item)
                pieces[key].add(item)
            elif item.kind == "probe" and item.seconds > 0:
                probes = self._probes.setdefault(item.device, deque(maxlen=PROBES))
                probes.append((item.stop_s, item.seconds))
            elif item.kind == "request":
                if item.stop_s - item.seconds > self._since_s:
                    own_s = min(item.seconds, max(0.0, item.stop_s - self._answered_s))
                    self.requests.append(Answered(seconds=item.seconds, own_s=own_s))
                self._answered_s = max(self._answered_s, item.stop_s)
            elif item.kind == "transfer":
                pair = (item.device, item.peer)
                sizes = self._frames.setdefault(pair, {})
                sizes.setdefault(item.num_bytes, deque(maxlen=_FRAMES)).append(item.seconds)
                self._sent_s[pair] = item.stop_s

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that were seen to compute."""
        return tuple(sorted(self._work))

    def estimate(self, device: str) -> Estimate | None:
        """What kernels take on a device; None before it was seen often enough."""
        known = [work for work in self._work.get(device, {}).values() if len(work.series) >= MIN_VALUES]
        current = [work for work in known if work.seen_s > self._since_s]
        used = current or known
        if not used:
            return None
        self._forget(device, used)
        expected_s = math.fsum(work.expected_s for work in used)
        seconds = [work.expected_s * math.exp(work.series.level) for work in used]
        # Pieces of work of one device slow down together, so their errors do not cancel.
        error = math.fsum(work.expected_s * work.series.error for work in used) / expected_s
        return Estimate(
            ratio=math.fsum(seconds) / expected_s,
            error=error,
            num_values=min(len(work.series) for work in used),
            seen_s=max(work.seen_s for work in used),
            families=_by_family(used),
        )

    def rate_per_s(self, now_s: float) -> float:
        """Requests a second, as the piece of work that was seen most often tells; 0 if none was of late."""
        rates = [
            len(work.times_s) / max(now_s - work.times_s[0], 1e-9)
            for pieces in self._work.values()
            for work in pieces.values()
            if len(work.times_s) > 1 and work.seen_s > self._since_s
        ]
        return max(rates, default=0.0)

    def probe(self, device: str, *, since_s: float = -math.inf) -> tuple[float, float] | None:
        """Seconds of the last probes of a device after ``since_s``, and when the last one ended."""
        found = [(stop_s, seconds) for stop_s, seconds in self._probes.get(device, ()) if stop_s > since_s]
        if not found:
            return None
        return statistics.median(seconds for _, seconds in found), found[-1][0]

    def link(self, device: str, peer: str, *, since_s: float) -> Link | None:
        """What a link does, by the quickest of its frames; None if too few were seen since ``since_s``.

        Latency and rate are told apart where frames of several sizes went over it (the line through the
        medians of slopes, as Theil and Sen have it); else all is taken to be rate.
        """
        sizes = self._frames.get((device, peer), {})
        points = [
            (num_bytes, _quantile(list(values), _IDLE))
            for num_bytes, values in sorted(sizes.items())
            if num_bytes > 0 and len(values) >= _MIN_FRAMES
        ]
        if not points or self._sent_s[device, peer] < since_s:
            return None
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :]]
        slope = statistics.median(slopes) if slopes else points[0][1] / points[0][0]
        slope = max(slope, 1e-12)
        latency_s = max(0.0, statistics.median(seconds - slope * size for size, seconds in points))
        return Link(bandwidth_bytes_per_s=1 / slope, latency_s=latency_s)

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Pairs that frames were seen between."""
        return tuple(sorted(self._frames))

    def _forget(self, device: str, used: list[_Work]) -> None:
        """Drop the pieces of work of earlier plans once the present one has told enough."""
        if all(work.seen_s > self._since_s for work in used):
            self._work[device] = {
                key: work for key, work in self._work[device].items() if work.seen_s > self._since_s
            }


def _by_family(pieces: Iterable[_Work]) -> dict[str, float]:
    expected_s: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for work in pieces:
        ratio = math.exp(work.series.level)
        for family, part_s in work.families.items():
            expected_s[family] = expected_s.get(family, 0.0) + part_s
            seconds[family] = seconds.get(family, 0.0) + part_s * ratio
    return {family: seconds[family] / total for family, total in sorted(expected_s.items()) if total > 0}


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]
