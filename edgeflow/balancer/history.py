"""The latency history: what devices and links were seen to do, and what that says of them now.

A duration is compared with what the cost model expects of the same piece of work (a stage's kernels), so what
is kept is a logarithm of a ratio. A device's ratio is that of sums over the pieces of work that it did within
a moment: it says what the plan as a whole takes there, however unequal its stages are, and it is steadier
than that of any of them. How the pieces differ says how families of operators do.
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


class _Blocks:
    """Ratios of sums over blocks of time, as a series."""

    def __init__(self) -> None:
        self.series = Series()
        self.seen_s = -math.inf
        self._since_s = 0.0
        self._seconds = self._expected_s = 0.0

    def add(self, item: Observation) -> None:
        if self._expected_s and item.stop_s >= self._since_s + BLOCK_S:
            self.series.add(math.log(max(self._seconds, 1e-9) / self._expected_s))
            self._seconds = self._expected_s = 0.0
        if not self._expected_s:
            self._since_s = item.stop_s
        self._seconds += item.seconds
        self._expected_s += item.expected_s
        self.seen_s = item.stop_s


class _Work(_Blocks):
    """One piece of work on one device."""

    def __init__(self, first: Observation) -> None:
        super().__init__()
        self.expected_s = first.expected_s
        self.families = first.families
        self.times_s: deque[float] = deque(maxlen=20)

    def add(self, item: Observation) -> None:
        super().add(item)
        self.times_s.append(item.stop_s)


class _Device:
    """All that one device computes.

    Attributes:
        pieces: Of the present plan, and of those before it until that has told enough.
        whole: All of them together, by the present plan.
        before: The same by the latest plan that told enough, if the present one has not.
    """

    def __init__(self) -> None:
        self.pieces: dict[tuple[float, tuple[str, ...]], _Work] = {}
        self.whole = _Blocks()
        self.before: _Blocks | None = None

    def add(self, item: Observation) -> None:
        key = (item.expected_s, tuple(sorted(item.families)))
        if key not in self.pieces:
            self.pieces[key] = _Work(item)
        self.pieces[key].add(item)
        self.whole.add(item)

    def switched(self) -> None:
        if len(self.whole.series) >= MIN_VALUES:
            self.before = self.whole
        self.whole = _Blocks()

    @property
    def told(self) -> _Blocks | None:
        """What has told enough; None if nothing has."""
        return self.whole if len(self.whole.series) >= MIN_VALUES else self.before


class LatencyHistory:
    """Durations of kernels, frames and probes, per device and link."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}
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
        for known in self._devices.values():
            known.switched()

    def forget_kernels(self) -> None:
        """Those that run from now on are others, of which the ones before say nothing."""
        self._devices.clear()

    def add(self, observations: Iterable[Observation]) -> None:
        """Take note of durations, in the order in which they ended."""
        for item in observations:
            if item.kind == "compute" and item.expected_s > 0:
                if item.device not in self._devices:
                    self._devices[item.device] = _Device()
                self._devices[item.device].add(item)
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
        return tuple(sorted(self._devices))

    def estimate(self, device: str) -> Estimate | None:
        """What kernels take on a device; None before it was seen often enough."""
        known = self._devices.get(device)
        told = known.told if known is not None else None
        if known is None or told is None:
            return None
        if told is known.whole:
            known.pieces = {key: work for key, work in known.pieces.items() if work.seen_s > self._since_s}
        ratio = math.exp(told.series.level)
        return Estimate(
            ratio=ratio,
            error=told.series.error,
            num_values=len(told.series),
            seen_s=told.seen_s,
            families=_by_family(known.pieces.values(), ratio),
        )

    def rate_per_s(self, now_s: float) -> float:
        """Requests a second, as the piece of work that was seen most often tells; 0 if none was of late."""
        rates = [
            len(work.times_s) / max(now_s - work.times_s[0], 1e-9)
            for known in self._devices.values()
            for work in known.pieces.values()
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


def _by_family(pieces: Iterable[_Work], ratio: float) -> dict[str, float]:
    """Family -> times of what is expected; together as much as the device as a whole takes."""
    expected_s: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for work in pieces:
        if len(work.series):
            level = math.exp(work.series.level)
            for family, part_s in work.families.items():
                expected_s[family] = expected_s.get(family, 0.0) + part_s
                seconds[family] = seconds.get(family, 0.0) + part_s * level
    whole = math.fsum(seconds.values()) / math.fsum(expected_s.values()) if expected_s else 1.0
    return {
        family: seconds[family] / total * ratio / whole
        for family, total in sorted(expected_s.items())
        if total > 0
    }


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]
