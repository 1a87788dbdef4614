"""WHERE a model runs: devices, the links between them, and where requests come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.units import parse_bandwidth, parse_bytes, parse_seconds

#: FLOP/s of a device of speed 1.0 in `Cluster.local`: about one desktop core in fp32. Only ratios matter
#: until a device is measured.
REFERENCE_FLOPS_PER_SECOND: Final = 40e9
REFERENCE_MEMORY_BANDWIDTH: Final = 10e9


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Hardware that can run a worker.

    Attributes:
        name: Unique in the cluster.
        flops_per_second: Sustained fp32 rate on large convolutions and matrix products.
        memory_bytes: What edgeflow may use.
        memory_bandwidth_bytes_per_s: Sustained rate at which operators stream tensors.
        overhead_s: Time to start one operator.
        power_idle_w, power_compute_w: Watts at rest, and on top of that while computing.
    """

    name: str
    flops_per_second: float
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float = REFERENCE_MEMORY_BANDWIDTH
    overhead_s: float = 10e-6
    power_idle_w: float = 0.0
    power_compute_w: float = 0.0


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a network path.

    Attributes:
        bandwidth_bytes_per_s: Sustained rate.
        latency_s: From the first byte sent to the first byte received, software included.
    """

    bandwidth_bytes_per_s: float
    latency_s: float

    def seconds(self, num_bytes: int) -> float:
        """Time from the start of a send to the last byte received, on an idle link."""
        return self.latency_s + num_bytes / self.bandwidth_bytes_per_s


#: Between a request's source and the device on the same host: memory, not a network.
HOST_LINK: Final = Link(bandwidth_bytes_per_s=4e9, latency_s=20e-6)


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Devices and the network between them.

    Attributes:
        devices: In rank order.
        network: The link between any two devices that `links` does not name.
        links: ``(from, to)`` names -> link, for pairs that differ; each direction on its own.
        source: Name of the device on whose host requests arrive and answers are wanted.
    """

    name: str = "cluster"
    devices: tuple[Device, ...]
    network: Link
    links: tuple[tuple[str, str, Link], ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def ranks(self) -> range:
        return range(len(self.devices))

    @property
    def source_rank(self) -> int:
        return self.rank_of(self.source) if self.source else 0

    def rank_of(self, name: str) -> int:
        """Return the rank of the device called ``name``; raise `ConfigError` if there is none."""
        for rank, device in enumerate(self.devices):
            if device.name == name:
                return rank
        raise ConfigError(f"no device {name!r}; devices: {', '.join(d.name for d in self.devices)}")

    def link(self, source: int, destination: int) -> Link:
        """Return the link between two ranks; rank -1 is the client, on the source device's host."""
        if source == destination:
            return HOST_LINK
        a = self.source_rank if source < 0 else source
        b = self.source_rank if destination < 0 else destination
        if a == b:
            return HOST_LINK
        return self._pairs.get((self.devices[a].name, self.devices[b].name), self.network)

    @property
    def _pairs(self) -> Mapping[tuple[str, str], Link]:
        return {(a, b): link for a, b, link in self.links}

    @property
    def relative_speeds(self) -> tuple[float, ...]:
        """Each device's FLOP/s as a share of the fastest one's."""
        fastest = max(device.flops_per_second for device in self.devices)
        return tuple(device.flops_per_second / fastest for device in self.devices)

    @staticmethod
    def local(
        speeds: Sequence[float] = (1.0,),
        *,
        bandwidth: str | float = "1 Gbit/s",
        latency: str | float = "0.2 ms",
        memory: str | int = "4 GiB",
        name: str = "local",
    ) -> Cluster:
        """Return a cluster of devices on one switch, named ``device0`` ....

        Args:
            speeds: Relative to one desktop core: 1.0 is `REFERENCE_FLOPS_PER_SECOND`.
            bandwidth: Of every link, each direction: text with a unit, or bytes per second.
            latency: Of every link: text with a unit, or seconds.
            memory: Of every device: text with a unit, or bytes.

        Raises:
            ConfigError: If a quantity cannot be read, or is not positive.

        Examples:
            >>> [d.name for d in Cluster.local([1.0, 0.5]).devices]
            ['device0', 'device1']
        """
        memory_bytes = parse_bytes(memory, what="memory")
        network = Link(
            bandwidth_bytes_per_s=parse_bandwidth(bandwidth), latency_s=parse_seconds(latency, what="latency")
        )
        devices = tuple(
            Device(
                name=f"device{rank}",
                flops_per_second=speed * REFERENCE_FLOPS_PER_SECOND,
                memory_bandwidth_bytes_per_s=speed * REFERENCE_MEMORY_BANDWIDTH,
                overhead_s=10e-6 / speed if speed > 0 else 0.0,
                memory_bytes=memory_bytes,
            )
            for rank, speed in enumerate(speeds)
        )
        return Cluster(name=name, devices=devices, network=network)

    @staticmethod
    def load(path: str | Path) -> Cluster:
        """Read a cluster file (YAML); see `edgeflow.cluster.file`."""
        from edgeflow.cluster.file import load_cluster

        return load_cluster(Path(path))


def _check(cluster: Cluster) -> None:
    if not cluster.devices:
        raise ConfigError(f"cluster {cluster.name!r} has no devices")
    names = [device.name for device in cluster.devices]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"cluster {cluster.name!r}: {names.count(name)} devices are called {name!r}")
    for device in cluster.devices:
        for key in ("flops_per_second", "memory_bytes", "memory_bandwidth_bytes_per_s"):
            _positive(getattr(device, key), f"device {device.name!r}: {key}")
        _not_negative(device.overhead_s, f"device {device.name!r}: overhead_s")
    for what, link in [("network", cluster.network), *((f"link {a}->{b}", x) for a, b, x in cluster.links)]:
        _positive(link.bandwidth_bytes_per_s, f"{what}: bandwidth_bytes_per_s")
        _not_negative(link.latency_s, f"{what}: latency_s")
    for a, b, _ in cluster.links:
        cluster.rank_of(a)
        cluster.rank_of(b)
    if cluster.source:
        cluster.rank_of(cluster.source)


def _positive(value: float, what: str) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"{what} must be positive and finite, got {value:g}")


def _not_negative(value: float, what: str) -> None:
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{what} must be finite and not negative, got {value:g}")
