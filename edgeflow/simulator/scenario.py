"""Conditions that change while requests run: networks, speeds, devices that are lost or join. Plain data."""

from __future__ import annotations

import itertools
from typing import Literal

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError

Kind = Literal["lose", "join", "slow"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one device.

    Attributes:
        time_s: From the start.
        kind: ``lose``: the device and its work are gone. ``join``: it is present, with nothing loaded.
            ``slow``: from now on it runs at ``factor`` times its usual speed; 1 is recovery.
        device: Its name.
        factor: Positive; used by ``slow`` only.
    """

    time_s: float
    kind: Kind
    device: str
    factor: float = 1.0


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity over time; each value holds until the next one.

    Attributes:
        of: ``network`` (all links that the cluster does not name), ``link:a->b`` (one that it names),
            ``medium:name``, ``uplink:name`` (both directions; append ``:out`` or ``:in`` for one), or
            ``device:name``.
        times_s: Increasing, the first one 0.
        values: Bytes per second; for a device, its speed as a share of its usual one.
        duration_s: Where it ends.
        repeat: Whether it begins again there; if not, a longer simulation is an error.
    """

    of: str
    times_s: tuple[float, ...]
    values: tuple[float, ...]
    duration_s: float
    repeat: bool = False

    def __post_init__(self) -> None:
        what = f"trace of {self.of!r}"
        if not self.times_s or len(self.times_s) != len(self.values):
            raise ConfigError(f"{what}: {len(self.times_s)} times and {len(self.values)} values")
        if self.times_s[0] != 0:
            raise ConfigError(f"{what}: the first value must be for time 0, got {self.times_s[0]:g} s")
        for before, after in itertools.pairwise((*self.times_s, self.duration_s)):
            if not before < after < float("inf"):
                raise ConfigError(f"{what}: times must increase; {after:g} s follows {before:g} s")
        for value in self.values:
            if not 0 <= value < float("inf"):
                raise ConfigError(f"{what}: values must be finite and not negative, got {value:g}")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """All changes in a simulation.

    A device is absent at the start if the first of its ``lose`` and ``join`` changes is ``join``.
    """

    name: str = ""
    changes: tuple[Change, ...] = ()
    traces: tuple[Trace, ...] = ()

    @property
    def late(self) -> frozenset[str]:
        """Names of devices that are absent at the start."""
        first: dict[str, Kind] = {}
        for change in self.in_order:
            if change.kind != "slow":
                first.setdefault(change.device, change.kind)
        return frozenset(device for device, kind in first.items() if kind == "join")

    @property
    def in_order(self) -> tuple[Change, ...]:
        """Changes by time; simultaneous ones in the given order."""
        return tuple(sorted(self.changes, key=lambda change: change.time_s))

    def initial(self, cluster: Cluster) -> Cluster:
        """Return the part of a cluster that is present at the start: the first plan is for it."""
        return cluster_of(cluster, frozenset(device.name for device in cluster.devices) - self.late)

    def check(self, cluster: Cluster) -> None:
        """Check that the scenario fits a cluster.

        Raises:
            ConfigError: If it names an unknown device or network, loses an absent device or the source, lets
                a present one join, or has a factor or time out of range.
        """
        present = {device.name for device in cluster.devices} - self.late
        source = cluster.devices[cluster.source_rank].name
        for change in self.in_order:
            what = f"scenario {self.name!r}, {change.kind} {change.device!r} at {change.time_s:g} s"
            cluster.rank_of(change.device)
            if not 0 <= change.time_s < float("inf"):
                raise ConfigError(f"{what}: the time must be finite and not negative")
            if not 0 < change.factor < float("inf"):
                raise ConfigError(f"{what}: the factor must be positive and finite, got {change.factor:g}")
            if change.kind == "slow":
                continue
            if change.device == source:
                raise ConfigError(f"{what}: requests arrive there, so it can be neither lost nor join")
            if (change.device in present) != (change.kind == "lose"):
                there = "already present" if change.device in present else "absent"
                raise ConfigError(f"{what}: the device is {there} at that time")
            present ^= {change.device}
        _check_traces(self, cluster)


def _check_traces(scenario: Scenario, cluster: Cluster) -> None:
    seen: set[str] = set()
    slowed = {change.device for change in scenario.changes if change.kind == "slow"}
    for trace in scenario.traces:
        what = f"scenario {scenario.name!r}, trace of {trace.of!r}"
        if trace.of in seen:
            raise ConfigError(f"{what}: given twice")
        seen.add(trace.of)
        if trace.of.startswith("device:"):
            device = trace.of.removeprefix("device:")
            cluster.rank_of(device)
            if device in slowed:
                raise ConfigError(f"{what}: the device also has `slow` events; give only one of the two")
        else:
            nominal_bandwidth(cluster, trace.of)


def nominal_bandwidth(cluster: Cluster, of: str) -> float:
    """Return the cluster's own bandwidth, in bytes per second, of the network part named by ``of``.

    Raises:
        ConfigError: If the cluster has no such part; the message lists the parts that it has.
    """
    known: dict[str, float] = {}
    if cluster.network is not None:
        known["network"] = cluster.network.bandwidth_bytes_per_s
    known |= {f"link:{a}->{b}": link.bandwidth_bytes_per_s for a, b, link in cluster.links if link}
    for segment in cluster.segments:
        names = [f"{segment.kind}:{segment.name}"]
        if segment.kind == "uplink":
            names += [f"{names[0]}:out", f"{names[0]}:in"]
        known |= dict.fromkeys(names, segment.bandwidth_bytes_per_s)
    if of not in known:
        raise ConfigError(
            f"cannot apply a trace to {of!r}: this cluster has {', '.join(known)} and device:NAME"
        )
    return known[of]


def cluster_of(cluster: Cluster, present: frozenset[str]) -> Cluster:
    """Return the part of a cluster that consists of the ``present`` devices, in the cluster's order."""
    if all(device.name in present for device in cluster.devices):
        return cluster
    segments = [
        msgspec.structs.replace(segment, members=tuple(name for name in segment.members if name in present))
        for segment in cluster.segments
    ]
    return Cluster(
        name=cluster.name,
        devices=tuple(device for device in cluster.devices if device.name in present),
        network=cluster.network,
        links=tuple(link for link in cluster.links if link[0] in present and link[1] in present),
        segments=tuple(segment for segment in segments if segment.members),
        source=cluster.devices[cluster.source_rank].name,
    )
