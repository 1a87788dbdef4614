"""A scenario applied to a cluster: the speed of each device and each hop at any time."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.network import Hop, Path
from edgeflow.simulator.profile import Profile, TraceEndedError
from edgeflow.simulator.scenario import Change, Scenario, Trace, nominal_bandwidth


class VaryingHop(Hop, frozen=True):
    """A hop whose rate is ``bytes_per_s`` times a profile.

    Attributes:
        profile: Profile of the link or segment that limits the rate.
    """

    profile: Profile | None = None

    def occupied_s(self, num_bytes: int, start_s: float = 0.0) -> float:
        seconds = num_bytes / self.bytes_per_s
        return seconds if self.profile is None else self.profile.finish(start_s, seconds) - start_s


class Conditions:
    """Speeds of devices and paths of a cluster under a scenario.

    Raises:
        ConfigError: If the scenario does not fit the cluster.
    """

    def __init__(self, scenario: Scenario, cluster: Cluster) -> None:
        scenario.check(cluster)
        self.cluster = cluster
        self._profiles = {trace.of: _profile(trace, _nominal(cluster, trace.of)) for trace in scenario.traces}
        for device in {change.device for change in scenario.changes if change.kind == "slow"}:
            changes = [c for c in scenario.in_order if c.kind == "slow" and c.device == device]
            self._profiles[f"device:{device}"] = _steps(changes)
        self._paths: dict[tuple[int, int], Path] = {}

    def speed(self, rank: int) -> Profile | None:
        """Return the profile of a device's speed, as a share of its usual speed; None if it never changes.

        The client has the speed of the source.
        """
        return self._profiles.get(f"device:{self.cluster.devices[self._host(rank)].name}")

    def path(self, source: int, destination: int) -> Path:
        """Return the path between two ranks of the cluster, with hops whose rates follow the traces."""
        pair = source, destination
        if pair not in self._paths:
            self._paths[pair] = self._find(source, destination)
        return self._paths[pair]

    def check_end(self, end_s: float, reached: str) -> None:
        """Check that no trace ends before ``end_s``.

        Raises:
            TraceEndedError: If one does.
        """
        for of, profile in sorted(self._profiles.items()):
            if profile.last_s < end_s:
                raise TraceEndedError(of, profile.last_s, reached=reached)

    def _find(self, source: int, destination: int) -> Path:
        path = self.cluster.path(source, destination)
        if path.is_local or not self._profiles:
            return path
        ends = [self.cluster.devices[self._host(rank)] for rank in (source, destination)]
        a, b = (device.name for device in ends)
        named = any((a, b) == (x, y) for x, y, _ in self.cluster.links)
        of_link = self._profiles.get(f"link:{a}->{b}" if named else "network")
        link = next((link for x, y, link in self.cluster.links if (a, b) == (x, y)), self.cluster.network)
        hops = list(path.hops)
        names = {hop.resource for hop in hops}
        set_by_link = {f"link:{a}->{b}"}
        set_by_link |= {f"egress:{a}"} if ends[0].upload_bytes_per_s is None else set()
        set_by_link |= {f"ingress:{b}"} if ends[1].download_bytes_per_s is None else set()
        if of_link is not None and link is not None and not names & set_by_link:
            # `Cluster.path` leaves out a link that is no bottleneck; its trace may make it one.
            hops.insert(1, Hop(f"link:{a}->{b}", link.bandwidth_bytes_per_s))
        varying = tuple(
            _vary(hop, of_link if hop.resource in set_by_link else self._of_segment(hop.resource))
            for hop in hops
        )
        return Path(link=path.link, hops=varying)

    def _of_segment(self, resource: str) -> Profile | None:
        found = self._profiles.get(resource)
        if found is None and resource.startswith("uplink:"):
            found = self._profiles.get(resource.rpartition(":")[0])
        return found

    def _host(self, rank: int) -> int:
        return self.cluster.source_rank if rank < 0 else rank


def _vary(hop: Hop, profile: Profile | None) -> Hop:
    if profile is None:
        return hop
    return VaryingHop(hop.resource, hop.bytes_per_s, hop.delay_s, profile)


def _nominal(cluster: Cluster, of: str) -> float:
    return 1.0 if of.startswith("device:") else nominal_bandwidth(cluster, of)


def _profile(trace: Trace, nominal: float) -> Profile:
    return Profile(
        trace.times_s,
        [value / nominal for value in trace.values],
        end_s=trace.duration_s,
        is_repeated=trace.repeat,
        name=trace.of,
    )


def _steps(changes: Sequence[Change]) -> Profile:
    """Return a profile whose factors hold until the next change, the last one for ever."""
    steps = {0.0: 1.0} | {change.time_s: change.factor for change in changes}
    return Profile(list(steps), list(steps.values()), name=f"device:{changes[0].device}")
