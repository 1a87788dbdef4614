"""Workers on the local network, found by multicast DNS. Needs the extra ``mdns``.

An announcement holds only the address of a worker and the name of its device, and anyone on the network can
announce anything. So callers rely on certificates and the token, as everywhere.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from edgeflow.closing import Closing
from edgeflow.errors import ConfigError
from edgeflow.net.transport.routes import check_address
from edgeflow.worker.registry.announcer import reachable_address
from edgeflow.worker.registry.state import Member

logger = logging.getLogger(__name__)

SERVICE_TYPE: Final = "_edgeflow._tcp.local."
_RESOLVE_TIMEOUT_MS: Final = 3000
#: The route to this address, mDNS's own group, gives the interface when a worker listens on all of them.
_GROUP: Final = "224.0.0.251:5353"

#: Told of a worker: its address, and what it says of itself.
Listener = Callable[[str, Member], None]


def _zeroconf(interfaces: list[str] | None) -> Any:
    try:
        import zeroconf
    except ImportError as error:
        raise ConfigError(f"{error}; pip install 'edgeflow-inference[mdns]'") from error
    return zeroconf.Zeroconf() if interfaces is None else zeroconf.Zeroconf(interfaces=interfaces)


class MdnsAnnouncer:
    """Announces one worker until it is closed.

    Args:
        name: Of its device.
        listening: Where the worker listens.
        interfaces: Addresses of the interfaces to announce on; all if None.

    Raises:
        ConfigError: If zeroconf is not installed, or the worker listens nowhere that can be announced.
    """

    def __init__(self, name: str, listening: str, *, interfaces: list[str] | None = None) -> None:
        host, _, port = reachable_address(listening, _GROUP).rpartition(":")
        try:
            address = ipaddress.ip_address(socket.gethostbyname(host.strip("[]")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{host} cannot be announced: {error}") from error
        self._zeroconf = _zeroconf(interfaces)
        import zeroconf

        self._info = zeroconf.ServiceInfo(
            SERVICE_TYPE,
            f"{name}.{SERVICE_TYPE}",
            addresses=[address.packed],
            port=int(port),
            properties={"name": name},
        )
        self._zeroconf.register_service(self._info)

    def close(self) -> None:
        self._zeroconf.unregister_service(self._info)
        self._zeroconf.close()


class MdnsBrowser(Closing):
    """Reports workers on the local network as they come and go.

    Args:
        on_join: Told of each worker that is found.
        on_leave: Told of each that is gone.
        interfaces: Addresses of the interfaces to listen on; all if None.
    """

    def __init__(
        self,
        *,
        on_join: Listener,
        on_leave: Listener = lambda address, member: None,
        interfaces: list[str] | None = None,
    ) -> None:
        self._on_join = on_join
        self._on_leave = on_leave
        self._known: dict[str, Member] = {}
        self._lock = threading.Lock()
        self._zeroconf = _zeroconf(interfaces)
        import zeroconf

        listener: Any = _Listener(self)
        self._browser = zeroconf.ServiceBrowser(self._zeroconf, SERVICE_TYPE, listener=listener)

    def close(self) -> None:
        self._browser.cancel()
        self._zeroconf.close()

    def found(self, service: str) -> None:
        info = self._zeroconf.get_service_info(SERVICE_TYPE, service, timeout=_RESOLVE_TIMEOUT_MS)
        member = None if info is None else member_of(info.parsed_addresses(), info.port, info.properties)
        if member is None:
            return
        with self._lock:
            before, self._known[service] = self._known.get(service), member
            if before == member:
                return
            if before is not None:
                self._on_leave(before.address, before)
            self._on_join(member.address, member)

    def lost(self, service: str) -> None:
        with self._lock:
            member = self._known.pop(service, None)
            if member is not None:
                self._on_leave(member.address, member)


class _Listener:
    """Called by zeroconf."""

    def __init__(self, browser: MdnsBrowser) -> None:
        self._browser = browser

    def add_service(self, zeroconf: Any, kind: str, name: str) -> None:
        self._browser.found(name)

    def update_service(self, zeroconf: Any, kind: str, name: str) -> None:
        self._browser.found(name)

    def remove_service(self, zeroconf: Any, kind: str, name: str) -> None:
        self._browser.lost(name)


def member_of(addresses: list[str], port: int | None, properties: dict[Any, Any]) -> Member | None:
    """Return the announced worker; None if the announcement is malformed.

    Examples:
        >>> member_of(["192.168.1.20"], 7070, {b"name": b"pi4"}).address
        '192.168.1.20:7070'
        >>> member_of(["192.168.1.20"], 7070, {}) is None
        True
    """
    name = properties.get(b"name")
    if not isinstance(name, bytes) or not addresses or not port:
        return None
    host = addresses[0]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        check_address(address)
        text = name.decode("ascii")
    except (ConfigError, UnicodeDecodeError):
        logger.info("mdns.ignored", extra={"address": address[:80]})
        return None
    return Member(name=text[:63], address=address)
