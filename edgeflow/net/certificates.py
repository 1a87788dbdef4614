"""Make the certificates of a cluster: a small certificate authority, and one certificate per host.

All files are in one folder: ``ca.pem`` and ``ca.key`` of the authority, ``NAME.pem`` and ``NAME.key`` of
each host, and the join token in ``token``. A host needs ``ca.pem``, its own two files and the token, while
``ca.key`` stays on the machine that signs certificates. Keys are elliptic-curve keys (P-256); only their
owner can read the files.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeflow.errors import ConfigError
from edgeflow.net.security import CA_FILE

CA_KEY_FILE: Final = "ca.key"
TOKEN_FILE: Final = "token"

#: Default validity of the authority's certificate and of a host's.
CA_DAYS: Final = 3650
HOST_DAYS: Final = 397

#: Clocks of small machines may be late, so certificates are valid from this long before now.
_SKEW: Final = datetime.timedelta(hours=1)

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)

_RESERVED: Final = ("ca", TOKEN_FILE)

_Key = ec.EllipticCurvePrivateKey


def make_authority(folder: Path, *, days: int = CA_DAYS, now: datetime.datetime | None = None) -> list[Path]:
    """Make an authority and a join token in ``folder``; return the paths of the files.

    Raises:
        ConfigError: If one of the files exists, or the folder cannot be written.
    """
    start = _now(now)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "edgeflow"),
            # The random number distinguishes the authorities of different clusters.
            x509.NameAttribute(NameOID.COMMON_NAME, f"edgeflow CA {secrets.token_hex(4)}"),
        ]
    )
    certificate = (
        _builder(name, name, key, start, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    contents = {
        CA_KEY_FILE: (_key_bytes(key), 0o600),
        CA_FILE: (certificate.public_bytes(serialization.Encoding.PEM), 0o644),
        TOKEN_FILE: (secrets.token_urlsafe(32).encode() + b"\n", 0o600),
    }
    return _write(folder, contents)


def has_authority(folder: Path) -> bool:
    """Return whether ``folder`` holds the certificate or the key of an authority."""
    return (folder / CA_FILE).exists() or (folder / CA_KEY_FILE).exists()


def make_host(
    folder: Path,
    name: str,
    addresses: Iterable[str] = (),
    *,
    days: int = HOST_DAYS,
    now: datetime.datetime | None = None,
) -> list[Path]:
    """Make the certificate of one host, signed by the authority in ``folder``; return the paths of the files.

    Args:
        name: Name of the host: names the files, and is valid for TLS like ``addresses``.
        addresses: Further host names and IP addresses under which other machines dial the host.

    Raises:
        ConfigError: If one of the files exists, the authority cannot be read, or a name is invalid.
    """
    if name in _RESERVED or not _HOST_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot be the name of a host's certificate")
    authority, authority_key = _load_authority(folder)
    start = _now(now)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "edgeflow"),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:64]),
        ]
    )
    certificate = (
        _builder(subject, authority.subject, key, start, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        # Workers dial each other, so each host is also a client.
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(_alternatives([name, *addresses])), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    contents = {
        f"{name}.key": (_key_bytes(key), 0o600),
        f"{name}.pem": (certificate.public_bytes(serialization.Encoding.PEM), 0o644),
    }
    return _write(folder, contents)


def parse_host(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the name and the further addresses in ``NAME[=ADDRESS,ADDRESS...]``.

    Examples:
        >>> parse_host("pi4=192.168.1.20,pi4.local")
        ('pi4', ('192.168.1.20', 'pi4.local'))
        >>> parse_host("nuc")
        ('nuc', ())
    """
    name, separator, rest = text.partition("=")
    addresses = tuple(address.strip() for address in rest.split(",")) if separator else ()
    if not name or not all(addresses):
        raise ConfigError(f"expected NAME or NAME=ADDRESS,ADDRESS..., got {text!r}")
    return name, addresses


def _alternatives(addresses: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for address in dict.fromkeys(addresses):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(address.strip("[]"))))
            continue
        except ValueError:
            pass
        if not _HOST_NAME.fullmatch(address):
            raise ConfigError(f"{address!r} is neither an IP address nor a host name")
        found.append(x509.DNSName(address))
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, start: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    if days < 1:
        raise ConfigError(f"a certificate must be valid for at least 1 day, got {days}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SKEW)
        .not_valid_after(start + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _load_authority(folder: Path) -> tuple[x509.Certificate, _Key]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
        key = serialization.load_pem_private_key((folder / CA_KEY_FILE).read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"no authority in {folder}: {error.strerror}: {error.filename}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the authority in {folder} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{folder / CA_KEY_FILE} is not the key of {folder / CA_FILE}")
    return certificate, key


def _key_bytes(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(folder: Path, contents: dict[str, tuple[bytes, int]]) -> list[Path]:
    """Write new files; each has its final mode when it is created, so that nobody else can read a key."""
    paths = [folder / name for name in contents]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in paths:
            if path.exists() or path.is_symlink():
                raise ConfigError(f"{path} already exists and is not overwritten")
        for path, (data, mode) in zip(paths, contents.values(), strict=True):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return paths


def _now(now: datetime.datetime | None) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) if now is None else now
