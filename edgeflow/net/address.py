"""Addresses, as people write them: ``HOST:PORT``."""

from __future__ import annotations

import ipaddress

from edgeflow.errors import ConfigError
from edgeflow.net.security import Access


def split_bind(bind: str) -> tuple[str, int]:
    """Return host and port of an address to listen at; brackets around an IPv6 address are taken off.

    Raises:
        ConfigError: If it is malformed.

    Examples:
        >>> split_bind("127.0.0.1:0"), split_bind("[::1]:7000")
        (('127.0.0.1', 0), ('::1', 7000))
    """
    host, separator, port = bind.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"bind address {bind!r} is not HOST:PORT with a port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The opposite of `split_bind`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_port(address: str, port: int) -> str:
    """Return ``address`` with another port.

    Examples:
        >>> with_port("pi4:7000", 7001)
        'pi4:7001'
    """
    return f"{address.rpartition(':')[0]}:{port}"


def check_bind(bind: str, *, insecure: bool, access: Access | None = None) -> None:
    """Raise `ConfigError` if ``bind`` lets other machines in unchecked and nobody said that this is fine."""
    host = bind.rpartition(":")[0].strip("[]")
    if insecure or host == "localhost" or (access is not None and access.credentials is not None):
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"{bind} can be reached from other machines, and nothing is encrypted or checked; "
            "give it certificates (--identity), bind to 127.0.0.1, "
            "or say --insecure if the network is yours alone"
        )
