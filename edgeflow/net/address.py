"""Parse, format and check addresses of the form ``HOST:PORT``."""

from __future__ import annotations

import ipaddress

from edgeflow.errors import ConfigError
from edgeflow.net.security import Access


def split_bind(bind: str) -> tuple[str, int]:
    """Return the host and port of ``bind``, without the brackets of an IPv6 address.

    Raises:
        ConfigError: If ``bind`` is malformed.

    Examples:
        >>> split_bind("127.0.0.1:0"), split_bind("[::1]:7000")
        (('127.0.0.1', 0), ('::1', 7000))
    """
    host, separator, port = bind.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"bind address {bind!r} is not HOST:PORT with a port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, with brackets around an IPv6 address: the inverse of `split_bind`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_port(address: str, port: int) -> str:
    """Return ``address`` with another port.

    Examples:
        >>> with_port("pi4:7000", 7001)
        'pi4:7001'
    """
    return f"{address.rpartition(':')[0]}:{port}"


def check_bind(bind: str, *, insecure: bool, access: Access | None = None) -> None:
    """Check that other machines reach ``bind`` only with certificates, or with the user's consent.

    Raises:
        ConfigError: If ``bind`` is not on loopback, ``access`` has no credentials, and not ``insecure``.
    """
    host = bind.rpartition(":")[0].strip("[]")
    if insecure or host == "localhost" or (access is not None and access.credentials is not None):
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"{bind} can be reached from other machines, and connections are neither encrypted nor "
            "authenticated; use certificates (--identity), bind to 127.0.0.1, "
            "or pass --insecure if nobody else uses the network"
        )
