"""Routes to a rank: use the fastest transport that works.

The routes to a rank are written in the order in which to try them,
``tcp://10.0.0.2:40123,grpc://10.0.0.2:7000``; a bare ``HOST:PORT`` means gRPC, which every worker offers on
its control port. Each connection tries them by itself, so a port that is blocked between two workers slows
down the connection of these two only.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from edgeflow.errors import ConfigError, WorkerUnreachableError
from edgeflow.net.address import with_port
from edgeflow.net.transport.base import Accept, Connection, Handler, Hello, Listener, Transport

logger = logging.getLogger(__name__)

#: Values of the option ``--transport``.
CHOICES: Final = ("auto", "tcp", "grpc")

#: Transports that a route may name.
ROUTED: Final = frozenset(CHOICES) - {"auto"}

#: Limit of the routes to one rank, in characters; a host name may have 253.
MAX_ROUTES_LENGTH: Final = 600

#: Time limit of a route that is not the last one: a firewall may drop packets without an answer.
_TRY_S: Final = 2.0


_HOST: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]{1,20})?\]")


class Route(NamedTuple):
    """Name of a transport, and the address at which a rank listens with it."""

    transport: str
    address: str


def format_routes(routes: Iterable[Route]) -> str:
    """Return ``routes`` as text, in order."""
    return ",".join(f"{route.transport}://{route.address}" for route in routes)


def parse_routes(text: str) -> tuple[Route, ...]:
    """Return the routes in ``text``: the inverse of `format_routes`; a bare address means gRPC.

    Examples:
        >>> parse_routes("tcp://pi4:40123,grpc://pi4:7000")[0]
        Route(transport='tcp', address='pi4:40123')
        >>> parse_routes("pi4:7000")
        (Route(transport='grpc', address='pi4:7000'),)
    """
    routes = []
    for item in text.split(","):
        transport, separator, address = item.partition("://")
        routes.append(Route(transport, address) if separator else Route("grpc", item))
    return tuple(routes)


def choose_routes(
    addresses: Mapping[int, str], ports: Mapping[int, Mapping[str, int]], choice: str
) -> Mapping[int, str]:
    """Return the routes to each rank, as text.

    Args:
        addresses: Rank -> ``HOST:PORT`` of its control plane.
        ports: Rank -> transport -> port, on the same host, of the transports that it offers besides gRPC.
        choice: One of `CHOICES`. ``auto`` prefers TCP if every rank offers it, and else uses gRPC for all: a
            mixture gains little, because requests wait for the slowest rank, and predictions assume one
            transport.

    Raises:
        ConfigError: If ``choice`` is unknown, or is ``tcp`` and a rank does not offer it.
    """
    if choice not in CHOICES:
        raise ConfigError(f"unknown transport {choice!r}; known: {', '.join(CHOICES)}")
    without = sorted(rank for rank in addresses if not ports.get(rank, {}).get("tcp"))
    if choice == "tcp" and without:
        raise ConfigError(f"ranks {without} do not offer tcp; start their workers without --transport grpc")
    if choice == "auto" and without:
        logger.info(
            "transport.chosen", extra={"transport": "grpc", "reason": f"ranks {without} offer no tcp"}
        )
    routes = {}
    for rank, address in addresses.items():
        ways = [] if choice == "tcp" else [Route("grpc", address)]
        if choice != "grpc" and not without:
            ways.insert(0, Route("tcp", with_port(address, ports[rank]["tcp"])))
        routes[rank] = format_routes(ways)
    return routes


def check_address(address: str) -> None:
    """Check the address of a peer, which this worker will dial.

    Raises:
        ConfigError: If ``address`` is neither ``HOST:PORT`` nor routes with one such address per transport.
    """
    routes = parse_routes(address[:MAX_ROUTES_LENGTH])
    names = [route.transport for route in routes]
    is_sane = len(address) <= MAX_ROUTES_LENGTH and len(set(names)) == len(names) and set(names) <= ROUTED
    if not is_sane or not all(_is_host_and_port(route.address) for route in routes):
        raise ConfigError(f"program: {address[:80]!r} is not the HOST:PORT of a peer")


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    return bool(_HOST.fullmatch(host)) and port.isascii() and port.isdecimal() and 0 < int(port) < 65536


class RoutedTransport:
    """Dials by routes, over the given transports; it cannot listen."""

    name = "routed"

    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = {transport.name: transport for transport in transports}

    def listen(self, bind: str, accept: Accept) -> Listener:
        raise NotImplementedError("listen with each transport, at its own address")

    def dial(self, address: str, hello: Hello, handler: Handler, *, timeout_s: float) -> Connection:
        """Try each route in turn; see `Transport.dial`."""
        return self.connect(address, hello, handler, timeout_s=timeout_s)[1]

    def connect(
        self, address: str, hello: Hello, handler: Handler, *, timeout_s: float
    ) -> tuple[Route, Connection]:
        """Dial, and return also the route that worked.

        The next route is tried only if the peer cannot be reached: a refusal is final.
        """
        deadline_s = time.monotonic() + timeout_s
        routes = [route for route in parse_routes(address) if route.transport in self._transports]
        if not routes:
            raise ConfigError(f"no route to {address!r}: this side offers {', '.join(self._transports)}")
        for route in routes[:-1]:
            transport = self._transports[route.transport]
            try:
                try_s = min(_TRY_S, timeout_s / 2)
                return route, transport.dial(route.address, hello, handler, timeout_s=try_s)
            except WorkerUnreachableError as error:
                reason = {"transport": route.transport, "address": route.address, "reason": str(error)}
                logger.warning("transport.unavailable", extra=reason)
        last = routes[-1]
        left_s = max(0.1, deadline_s - time.monotonic())
        transport = self._transports[last.transport]
        return last, transport.dial(last.address, hello, handler, timeout_s=left_s)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()
