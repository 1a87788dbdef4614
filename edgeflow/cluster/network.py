"""Links, and the resources that transfers queue for: network interfaces, uplinks and shared media.

One mechanism for every kind of network: a transfer of n bytes visits *resources* in order. At each it waits
for its turn, then occupies it for n / rate seconds; its first byte goes on as soon as its turn begins.

switch          each device has its own interface; sending and receiving are two resources
shared medium   all transfers of its members take turns (the airtime of Wi-Fi)
uplink          members reach the rest through one interface (machines of one host), itself two resources
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec


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


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the network that several devices share.

    Attributes:
        name: Unique in the cluster.
        kind: ``medium``: every transfer from or to a member takes its turn on it. ``uplink``: transfers
            between a member and a device outside take turns, each direction on its own.
        members: Names of devices; at least one.
        bandwidth_bytes_per_s: Sustained rate; of an uplink, each direction.
        latency_s: Added once to the latency of the link.
        is_relayed: Of a medium: a transfer between two members passes an access point, so it is on the air
            twice.
    """

    name: str
    kind: Literal["medium", "uplink"]
    members: tuple[str, ...]
    bandwidth_bytes_per_s: float
    latency_s: float = 0.0
    is_relayed: bool = False


class Hop(msgspec.Struct, frozen=True):
    """One resource on a path.

    Attributes:
        resource: Its name, for example ``egress:nuc``; transfers that name the same one take turns.
        bytes_per_s: Rate at which a transfer passes it.
        delay_s: From the start of the turn until the first byte reaches the next resource, or the receiver.
    """

    resource: str
    bytes_per_s: float
    delay_s: float = 0.0

    def occupied_s(self, num_bytes: int, start_s: float = 0.0) -> float:
        """How long a turn lasts that begins at ``start_s``, which matters where rates vary."""
        return num_bytes / self.bytes_per_s


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """The way from one device to another.

    Attributes:
        link: Rate and latency on an idle network.
        hops: In order; empty inside one host.
    """

    link: Link
    hops: tuple[Hop, ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether both ends are on one host, so that no network is used."""
        return not self.hops

    def seconds(self, num_bytes: int) -> float:
        """Time from the start of a send to the last byte received, on an idle network."""
        return self.link.seconds(num_bytes)


class Turns(msgspec.Struct):
    """Turns at one resource, given in the order in which first bytes reach it.

    Attributes:
        free_s: End of the last turn.
        busy_s: Total length of all turns.
    """

    free_s: float = 0.0
    busy_s: float = 0.0


class Transit(msgspec.Struct):
    """A transfer under way: the rule that moves it along its hops, in predictions and simulations.

    Of two transfers that reach a resource at the same moment the caller must move the one with the lower tag
    first.

    Attributes:
        hops: The resources on its path, in order; at least one.
        num_bytes: Its size.
        position: Index of the next hop of its first byte.
        last_byte_s: Earliest time at which its last byte reaches that hop, given the hops before it.
    """

    hops: tuple[Hop, ...]
    num_bytes: int
    position: int = 0
    last_byte_s: float = 0.0

    @property
    def has_left(self) -> bool:
        """Whether it has had its turn at every resource."""
        return self.position == len(self.hops)

    def move(self, now_s: float, turns: Turns) -> float:
        """Pass the next resource, which the first byte reaches at ``now_s``.

        Args:
            turns: The turns of that resource.

        Returns:
            When the first byte reaches the following resource; after the last resource (`has_left`), when the
            last byte arrives.
        """
        hop = self.hops[self.position]
        start_s = max(now_s, turns.free_s)
        occupied_s = hop.occupied_s(self.num_bytes, start_s)
        turns.busy_s += occupied_s
        turns.free_s = stop_s = start_s + occupied_s
        # The turn cannot end before the last byte has come.
        self.last_byte_s = max(stop_s, self.last_byte_s) + hop.delay_s
        self.position += 1
        return self.last_byte_s if self.position == len(self.hops) else start_s + hop.delay_s


#: Between a request's source and the device on the same host: memory, not a network.
HOST_LINK: Final = Link(bandwidth_bytes_per_s=4e9, latency_s=20e-6)
HOST_PATH: Final = Path(link=HOST_LINK)
