"""Access control: certificates of both ends (mutual TLS) and the join token.

``edgeflow certs`` (`edgeflow.net.certificates`) makes the certificates: one small certificate authority
(CA) per cluster, and one certificate per host, which each process of the host shows as server and as client.
Both ends check the other's certificate against the CA; the dialling end also checks that the certificate is
valid for the name or IP address that it dialled. Without credentials nothing is encrypted; this is allowed
on loopback and with ``--insecure``.

The join token is a secret in the metadata of every control call, so that a certificate alone, or access to
loopback alone, is not enough to make a worker run a program. It comes from a file or the environment, never
from the command line, which every user of a machine can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import grpc

from edgeflow.errors import ConfigError

#: File name of the CA's certificate, in every folder of certificates.
CA_FILE: Final = "ca.pem"

#: Metadata key of the join token in a call.
TOKEN_KEY: Final = "edgeflow-token"

#: Shorter tokens could be guessed.
MIN_TOKEN_CHARS: Final = 16
MAX_TOKEN_CHARS: Final = 512

IDENTITY_VARIABLE: Final = "EDGEFLOW_IDENTITY"
TOKEN_VARIABLE: Final = "EDGEFLOW_TOKEN"
TOKEN_FILE_VARIABLE: Final = "EDGEFLOW_TOKEN_FILE"

#: Variables that a process must not pass on to another process by accident.
VARIABLES: Final = (IDENTITY_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The certificate of this host, its key, and the CA that it trusts; PEM files.

    Attributes:
        ca: Certificate of the authority that must have signed the other end's certificate.
        certificate: Certificate of this host.
        key: Private key of ``certificate``; only the owner may have access to the file.
    """

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def load(cls, directory: Path | str, name: str) -> Self:
        """Return the credentials of the host ``name`` in a folder that ``edgeflow certs`` has written.

        Raises:
            ConfigError: If a file is missing or unreadable, or the key is readable by others or belongs to
                another certificate.
        """
        folder = Path(directory)
        if not name or Path(name).name != name:
            raise ConfigError(f"{name!r} is not the name of a certificate")
        made = cls(ca=folder / CA_FILE, certificate=folder / f"{name}.pem", key=folder / f"{name}.key")
        made.check()
        return made

    @classmethod
    def of(cls, identity: Path | str) -> Self:
        """Return the credentials named ``FOLDER/NAME``, as on the command line; see `load`."""
        path = Path(identity)
        return cls.load(path.parent, path.name)

    def check(self) -> None:
        """Raise `ConfigError` if the files cannot be used."""
        for path in (self.ca, self.certificate, self.key):
            _read(path)
        status = self.key.stat()
        mode = stat.S_IMODE(status.st_mode)
        # Root may let a service read a key through its group (Kubernetes secrets, systemd credentials).
        is_lent = status.st_uid == 0 and os.geteuid() != 0
        if mode & (0o037 if is_lent else 0o077):
            raise ConfigError(
                f"{self.key} is accessible to others (mode {mode:04o}); restrict it to its owner: "
                f"chmod 600 {self.key}"
            )
        self.ssl_context(server=True)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials of a gRPC server; it accepts only clients with a certificate of the CA."""
        return grpc.ssl_server_credentials(
            [(_read(self.key), _read(self.certificate))],
            root_certificates=_read(self.ca),
            require_client_auth=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials of a gRPC client; it checks that the server's certificate fits the address."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )

    def ssl_context(self, server: bool) -> ssl.SSLContext:
        """Return a TLS 1.3 context for plain sockets.

        A client must pass the host that it dials, a name or an IP address without port and brackets, as
        ``server_hostname``.

        Raises:
            ConfigError: If the files are not valid certificates, or the key belongs to another certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.ca)
            # The empty password makes an encrypted key an error; without it OpenSSL would prompt.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise ConfigError(f"{self.certificate} and {self.key} cannot be used: {reason}") from error
        return context


@dataclass(frozen=True, slots=True)
class Access:
    """The certificates and the join token that this process shows and demands; each may be absent."""

    credentials: Credentials | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        identity: Path | str | None = None,
        token_file: Path | str | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the access that options and environment describe; options take precedence.

        Args:
            identity: ``FOLDER/NAME`` of the certificate; default ``EDGEFLOW_IDENTITY``.
            token_file: A file that holds the token; default ``EDGEFLOW_TOKEN_FILE``. Without a file,
                ``EDGEFLOW_TOKEN`` holds the token itself.
            environment: `os.environ` if None.

        Raises:
            ConfigError: If a file cannot be used, or the token is too short or too long.
        """
        variables = os.environ if environment is None else environment
        identity = identity or variables.get(IDENTITY_VARIABLE) or None
        token_file = token_file or variables.get(TOKEN_FILE_VARIABLE) or None
        credentials = Credentials.of(identity) if identity else None
        if token_file:
            path = Path(token_file)
            return cls(credentials, check_token(_read(path), where=str(path)))
        token = variables.get(TOKEN_VARIABLE) or None
        if token is None:
            return cls(credentials)
        return cls(credentials, check_token(token.encode(errors="replace"), where=TOKEN_VARIABLE))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of a control call."""
        return () if self.token is None else ((TOKEN_KEY, self.token),)

    def admits(self, token: str | bytes | None) -> bool:
        """Return whether ``token`` permits control calls; the time taken reveals nothing about the token."""
        if self.token is None:
            return True
        shown = token.encode() if isinstance(token, str) else token or b""
        # Digests have equal length, so the time of the comparison does not reveal the token's length either.
        return hmac.compare_digest(_digest(shown), _digest(self.token.encode()))


def check_token(text: bytes, *, where: str) -> str:
    """Return the join token in ``text``, without surrounding white space.

    Raises:
        ConfigError: If it is too short or too long, or holds characters that call metadata cannot carry.
    """
    token = text.strip()
    if not MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS:
        raise ConfigError(
            f"{where}: a join token must have {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} characters, "
            f"got {len(token)}; `edgeflow certs` makes one"
        )
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise ConfigError(f"{where}: a join token must be printable ASCII without spaces")
    return token.decode("ascii")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
