"""The latency history: measured durations of devices and links, and estimates of their present speed.

A duration is divided by the cost model's prediction for the same piece of work (a stage's kernels), and the
history keeps logarithms of such ratios. A device's ratio divides sums over all pieces that it ran within a
block of time: it describes the whole plan on that device, however unequal its stages are, and is steadier
    than
the ratio of one piece. Differences between pieces give the ratios of families of operators.
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

#: Number of frames kept per link and size.
_FRAMES: Final = 25

#: Number of probes kept per device; their median tolerates one disturbed probe.
PROBES: Final = 3

#: Number of requests kept.
_REQUESTS: Final = 64

#: Quantile of the frames' durations that stands for an idle link: slower frames have waited for others.
_IDLE: Final = 0.25

#: Number of frames of one size from which on the size is used.
_MIN_FRAMES: Final = 10


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The measured speed of a device's kernels.

    Attributes:
        ratio: Measured time / predicted time.
        error: Standard error of its natural logarithm.
        families: The same ratio by family of operators, where observations distinguish them.
        num_values: Number of blocks of time that it rests on.
        seen_s: When the last observation ended.
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
        own_s: The part of it after the previous answer: all of it if requests follow each other; with several
            in flight, the time without the wait for the others.
    """

    seconds: float
    own_s: float


#: Average durations over blocks of this many seconds: on a rationed processor (a control group's quota, a
#: scheduler's time slice) most kernels are as quick as ever and some very slow, and only the mean shows how
#: slow the device is.
BLOCK_S: Final = 0.25


class _Blocks:
    """A series of sum(measured) / sum(predicted) over blocks of `BLOCK_S`, as natural logarithms."""

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
    """Durations of one piece of work on one device."""

    def __init__(self, first: Observation) -> None:
        super().__init__()
        self.expected_s = first.expected_s
        self.families = first.families
        self.times_s: deque[float] = deque(maxlen=20)

    def add(self, item: Observation) -> None:
        super().add(item)
        self.times_s.append(item.stop_s)


class _Device:
    """All kernels of one device.

    Attributes:
        pieces: Pieces of work of the running plan; also those of earlier plans until the running one has
            enough values.
        whole: All pieces of the running plan together.
        before: The same of the latest earlier plan that had enough values.
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
        """The latest blocks with enough values; None if there are none."""
        return self.whole if len(self.whole.series) >= MIN_VALUES else self.before


class LatencyHistory:
    """Durations of kernels, frames and probes, per device and link."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}
        #: Device -> its latest probes: when each ended, and its seconds.
        self._probes: dict[str, deque[tuple[float, float]]] = {}
        self._frames: dict[tuple[str, str], dict[int, deque[float]]] = {}
        self._sent_s: dict[tuple[str, str], float] = {}
        self._since_s = -math.inf
        #: Requests answered by the running plan, oldest first.
        self.requests: deque[Answered] = deque(maxlen=_REQUESTS)
        self._answered_s = -math.inf

    def switched(self, now_s: float) -> None:
        """Record that another plan runs; its predecessor's values count until it has enough of its own."""
        self._since_s = now_s
        self.requests.clear()
        for known in self._devices.values():
            known.switched()

    def forget_kernels(self) -> None:
        """Discard the kernel history: a different graph now runs."""
        self._devices.clear()

    def add(self, observations: Iterable[Observation]) -> None:
        """Add durations, in the order in which they ended."""
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
        """Devices with at least one kernel in the history."""
        return tuple(sorted(self._devices))

    def estimate(self, device: str) -> Estimate | None:
        """Return the measured speed of a device's kernels; None without enough values."""
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
        """Return requests per second, by the running plan's most frequent piece of work; 0 without any."""
        rates = [
            len(work.times_s) / max(now_s - work.times_s[0], 1e-9)
            for known in self._devices.values()
            for work in known.pieces.values()
            if len(work.times_s) > 1 and work.seen_s > self._since_s
        ]
        return max(rates, default=0.0)

    def probe(self, device: str, *, since_s: float = -math.inf) -> tuple[float, float] | None:
        """Return the median seconds of a device's probes after ``since_s``, and when the last one ended."""
        found = [(stop_s, seconds) for stop_s, seconds in self._probes.get(device, ()) if stop_s > since_s]
        if not found:
            return None
        return statistics.median(seconds for _, seconds in found), found[-1][0]

    def link(self, device: str, peer: str, *, since_s: float) -> Link | None:
        """Return a link's bandwidth and latency, fitted to the quicker of its frames.

        Frames of several sizes separate latency from bandwidth (Theil-Sen: the median of all slopes); with
        one size, all time counts as transmission. None if no size has enough frames or the last frame is
        older than ``since_s``.
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
        """Pairs of sender and receiver with at least one frame."""
        return tuple(sorted(self._frames))


def _by_family(pieces: Iterable[_Work], ratio: float) -> dict[str, float]:
    """Return family -> measured time / predicted time, scaled so that all together give ``ratio``."""
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
