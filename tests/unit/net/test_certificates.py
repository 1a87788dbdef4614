"""Certificates of a cluster: what is in them, and what is refused before a file is written."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509

from edgeflow.errors import ConfigError
from edgeflow.net.certificates import has_authority, make_authority, make_host, parse_host

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_host_is_signed_by_its_authority_and_is_none(tmp_path: Path) -> None:
    assert not has_authority(tmp_path)
    authority = make_authority(tmp_path)
    host = make_host(tmp_path, "pi4", ["192.0.2.4", "[2001:db8::4]", "pi4.lan", "pi4"])
    assert has_authority(tmp_path)
    assert {path.name for path in (*authority, *host)} == {path.name for path in tmp_path.iterdir()}

    made = certificate(tmp_path / "pi4.pem")
    made.verify_directly_issued_by(certificate(tmp_path / "ca.pem"))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pi4", "pi4.lan"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.4", "2001:db8::4"]
    assert not made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_certificates_are_valid_from_a_little_before_now(tmp_path: Path) -> None:
    make_authority(tmp_path, now=NOW)
    make_host(tmp_path, "pi4", days=2, now=NOW)
    made = certificate(tmp_path / "pi4.pem")
    assert NOW - made.not_valid_before_utc == datetime.timedelta(hours=1)
    assert made.not_valid_after_utc - NOW == datetime.timedelta(days=2)


def test_nothing_is_written_without_an_authority_or_a_day(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no authority in"):
        make_host(tmp_path, "pi4")
    make_authority(tmp_path)
    with pytest.raises(ConfigError, match="at least 1 day, got 0"):
        make_host(tmp_path, "pi4", days=0)
    assert not list(tmp_path.glob("pi4.*"))


def test_an_authority_with_the_key_of_another_one_signs_nothing(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    make_authority(ours)
    make_authority(theirs)
    (ours / "ca.key").write_bytes((theirs / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match=r"ca\.key is not the key of .*ca\.pem"):
        make_host(ours, "pi4")
    (ours / "ca.key").write_text("nonsense")
    with pytest.raises(ConfigError, match="cannot be read"):
        make_host(ours, "pi4")


@pytest.mark.parametrize("text", ["", "=10.0.0.1", "pi4=", "pi4=10.0.0.1,,b"])
def test_an_incomplete_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected NAME"):
        parse_host(text)
