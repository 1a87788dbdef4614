"""Certificates and tokens: what is made, and what is refused before anything listens."""

from __future__ import annotations

import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner

from edgeflow.cli.app import app
from edgeflow.errors import ConfigError
from edgeflow.net.certificates import HOST_DAYS, make_authority, make_host
from edgeflow.net.security import Access, Credentials, check_token


def test_keys_are_for_their_owner_alone(certificates: Path) -> None:
    for name in ("ca.key", "here.key", "token"):
        assert stat.S_IMODE((certificates / name).stat().st_mode) == 0o600


def test_a_certificate_names_its_host_and_ends(certificates: Path) -> None:
    made = x509.load_pem_x509_certificate((certificates / "here.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["here", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == HOST_DAYS
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca  # a host cannot make further hosts


@pytest.mark.parametrize("again", ["authority", "host"])
def test_nothing_is_overwritten(tmp_path: Path, again: str) -> None:
    make_authority(tmp_path)
    make_host(tmp_path, "nuc")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="already exists and is not overwritten"):
        make_authority(tmp_path) if again == "authority" else make_host(tmp_path, "nuc")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../nuc", "a/b", "ca", "token", "-x", "a b", "a\n", "x" * 300]
)
def test_a_host_is_no_path(tmp_path: Path, name: str) -> None:
    make_authority(tmp_path / "certs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError):
        make_host(tmp_path / "certs", name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("address", ["a b", "10.0.0.0/8", "*.lan", "http://x", ""])
def test_an_address_is_a_name_or_an_ip(tmp_path: Path, address: str) -> None:
    make_authority(tmp_path)
    with pytest.raises(ConfigError, match="neither an IP address nor a host name"):
        make_host(tmp_path, "nuc", [address])


@pytest.mark.parametrize("name", ["", "../here", "a/b", "..", "."])
def test_an_identity_is_no_path(certificates: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        Credentials.load(certificates, name)


def test_a_key_that_others_can_read_is_refused(certificates: Path, tmp_path: Path) -> None:
    for name in ("ca.pem", "here.pem", "here.key"):
        (tmp_path / name).write_bytes((certificates / name).read_bytes())
    (tmp_path / "here.key").chmod(0o640)
    with pytest.raises(ConfigError, match="is accessible to others"):
        Credentials.load(tmp_path, "here")


def test_a_key_of_another_certificate_is_refused(certificates: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes((certificates / "ca.pem").read_bytes())
    (tmp_path / "x.pem").write_bytes((certificates / "here.pem").read_bytes())
    (tmp_path / "x.key").write_bytes((certificates / "elsewhere.key").read_bytes())
    (tmp_path / "x.key").chmod(0o600)
    with pytest.raises(ConfigError, match="cannot be used"):
        Credentials.load(tmp_path, "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem: No such file"):
        Credentials.load(tmp_path, "nuc")


def _handshake(server: Credentials, client: ssl.SSLContext, host: str) -> str:
    """Shake hands over a socket pair; return what was said, or raise what went wrong."""
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)

    def serve() -> None:
        try:
            with server.ssl_context(server=True).wrap_socket(theirs, server_side=True) as end:
                end.sendall(b"hello")
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as end:
            return end.recv(5).decode()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "here"])
def test_plain_sockets_shake_hands_for_names_and_addresses(certificates: Path, host: str) -> None:
    mine = Credentials.load(certificates, "here")
    assert _handshake(mine, mine.ssl_context(server=False), host) == "hello"


@pytest.mark.parametrize("host", ["127.0.0.2", "elsewhere", "evil.localhost"])
def test_plain_sockets_check_the_host(certificates: Path, host: str) -> None:
    mine = Credentials.load(certificates, "here")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|doesn't match"):
        _handshake(mine, mine.ssl_context(server=False), host)


def test_plain_sockets_ask_for_a_certificate(certificates: Path) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(certificates / "ca.pem")
    with pytest.raises(OSError):  # an alert, or the connection is reset
        assert _handshake(Credentials.load(certificates, "here"), bare, "localhost") == "hello"


@pytest.mark.parametrize(
    "token", [b"", b"short", b"x" * 513, b"with a space in the middle", b"umlaut \xc3\xa4" * 4]
)
def test_bad_tokens(token: bytes) -> None:
    with pytest.raises(ConfigError, match="join token"):
        check_token(token, where="here")


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-from-a-file\n")
    environment = {"EDGEFLOW_TOKEN": "a-token-from-the-environment"}
    assert Access.of(None, file, environment=environment).token == "a-token-from-a-file"
    assert Access.of(environment=environment).token == "a-token-from-the-environment"
    assert Access.of(environment={}) == Access()


def test_a_token_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(Access(token="secret-secret-secret"))


@pytest.mark.parametrize(
    "shown", [None, "", "x", "the-right-token-of-this-cluste", "the-right-token-of-this-cluster "]
)
def test_only_the_right_token_is_admitted(shown: str | None, access: Access) -> None:
    assert not access.admits(shown)
    assert access.admits(access.token)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, access: Access) -> None:
    """By hmac's function, and on values of one length whatever was shown."""
    lengths: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        lengths.append((len(a), len(b)))
        return False

    monkeypatch.setattr("edgeflow.net.security.hmac.compare_digest", compare)
    for shown in (None, "", "x" * 10_000, access.token):
        assert not access.admits(shown)
    assert lengths == [(32, 32)] * 4


def test_no_command_takes_the_token_itself() -> None:
    """What stands on a command line can be read by every user of the machine."""
    for command in ("worker", "run", "verify"):
        assert "--token " not in CliRunner().invoke(app, [command, "--help"]).stdout


def test_the_command_makes_a_cluster_and_adds_to_it(tmp_path: Path) -> None:
    folder = str(tmp_path / "certs")
    first = CliRunner().invoke(app, ["certs", "nuc=192.168.1.10,nuc.local", "--output", folder])
    assert first.exit_code == 0
    assert [Path(line).name for line in first.stdout.splitlines()] == [
        "ca.key", "ca.pem", "token", "nuc.key", "nuc.pem",
    ]  # fmt: skip
    second = CliRunner().invoke(app, ["certs", "pi4", "--output", folder])
    assert [Path(line).name for line in second.stdout.splitlines()] == ["pi4.key", "pi4.pem"]
    assert CliRunner().invoke(app, ["certs", "pi4", "--output", folder]).exit_code == 3
    token = (tmp_path / "certs" / "token").read_text().strip()
    assert token not in first.output
    Access.of(tmp_path / "certs" / "pi4", tmp_path / "certs" / "token", environment={})


def expired(folder: Path, certificates: Path) -> Credentials:
    """A certificate of the right authority that ended yesterday."""
    for name in ("ca.pem", "ca.key"):
        (folder / name).write_bytes((certificates / name).read_bytes())
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=31)
    make_host(folder, "here", ["127.0.0.1", "localhost"], days=30, now=then)
    return Credentials.load(folder, "here")


def test_plain_sockets_refuse_what_has_expired(certificates: Path, tmp_path: Path) -> None:
    good: Any = Credentials.load(certificates, "here")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(expired(tmp_path, certificates), good.ssl_context(server=False), "localhost")
