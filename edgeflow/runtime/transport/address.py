"""Addresses, as people write them: ``HOST:PORT``."""

from __future__ import annotations

from edgeflow.errors import ConfigError


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
