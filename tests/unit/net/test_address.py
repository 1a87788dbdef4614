"""Addresses: parsed, put together, and refused where they would let others in."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.errors import ConfigError
from edgeflow.net.address import check_bind, join_address, split_bind, with_port
from edgeflow.net.security import Access, Credentials

ENCRYPTED = Access(Credentials(Path("ca.pem"), Path("here.pem"), Path("here.key")))


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "pi4:7000", "[::1]:65535", "[fe80::1%eth0]:1"])
def test_joining_is_the_inverse_of_splitting(bind: str) -> None:
    assert join_address(*split_bind(bind)) == bind


def test_brackets_are_no_part_of_the_host() -> None:
    assert split_bind("[::1]:7000") == ("::1", 7000)


@pytest.mark.parametrize("bind", ["", "pi4", ":7000", "pi4:", "pi4:-1", "pi4:65536", "pi4:7e3", "pi4: 7"])
def test_malformed_addresses_are_refused(bind: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT"):
        split_bind(bind)


def test_the_port_alone_is_replaced() -> None:
    assert with_port("[::1]:7000", 7001) == "[::1]:7001"


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.8.8.8:1", "[::1]:0", "localhost:7000"])
def test_loopback_needs_nothing(bind: str) -> None:
    check_bind(bind, insecure=False)


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.168.1.2:7000", "pi4:7000", "localhost.lan:1"])
def test_other_addresses_need_certificates_or_consent(bind: str) -> None:
    for access in (None, Access(), Access(token="a" * 16)):
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            check_bind(bind, insecure=False, access=access)
    check_bind(bind, insecure=True)
    check_bind(bind, insecure=False, access=ENCRYPTED)
