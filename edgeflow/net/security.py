"""Who may talk to whom: certificates of both ends (mutual TLS) and the join token.

Certificates are made by ``edgeflow certs`` (`edgeflow.net.certificates`): one small certificate authority
(CA) for a cluster, and one certificate a host, which is shown by whoever runs there, as server and as client
alike. Both ends check the other's against the CA; the dialling end also checks that the name or IP address
that it dialled is one that the certificate is for. Where no credentials are given nothing is encrypted, which
is allowed on loopback, or where somebody said ``--insecure``.

The join token is a secret that every control call carries in its metadata, so that a certificate alone, or
loopback alone, is not enough to make a worker run something. It comes from a file or the environment, never
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

#: File of the CA's certificate, in every folder of certificates.
CA_FILE: Final = "ca.pem"

#: Key of the join token in the metadata of a call.
TOKEN_KEY: Final = "edgeflow-token"

#: Shorter tokens could be guessed.
MIN_TOKEN_CHARS: Final = 16
MAX_TOKEN_CHARS: Final = 512

IDENTITY_VARIABLE: Final = "EDGEFLOW_IDENTITY"
TOKEN_VARIABLE: Final = "EDGEFLOW_TOKEN"
TOKEN_FILE_VARIABLE: Final = "EDGEFLOW_TOKEN_FILE"

#: What a process must not hand on to another one by accident.
VARIABLES: Final = (IDENTITY_VARIABLE, TOKEN_VARIABLE, TOKEN_FILE_VARIABLE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The certificate of this host, its key, and the CA that it trusts; PEM files.

    Attributes:
        ca: Certificate of the authority, which must have signed whatever the other end shows.
        certificate: Of this host.
        key: Private key of ``certificate``; only the owner may be able to read the file.
    """

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def load(cls, directory: Path | str, name: str) -> Self:
        """Return the credentials of the host ``name`` in a folder that ``edgeflow certs`` has written.

        Raises:
            ConfigError: If a file is missing or unreadable, the key is readable by others or belongs to
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
        """Return the credentials ``FOLDER/NAME``, as the command line names them; see `load`."""
        path = Path(identity)
        return cls.load(path.parent, path.name)

    def check(self) -> None:
        """Raise `ConfigError` if the files cannot be used."""
        for path in (self.ca, self.certificate, self.key):
            _read(path)
        status = self.key.stat()
        mode = stat.S_IMODE(status.st_mode)
        # What root lends to a service by its group (a secret of Kubernetes, a credential of systemd) is fine.
        is_lent = status.st_uid == 0 and os.geteuid() != 0
        if mode & (0o037 if is_lent else 0o077):
            raise ConfigError(
                f"{self.key} can be read by others (mode {mode:04o}); make it yours alone: "
                f"chmod 600 {self.key}"
            )
        self.ssl_context(server=True)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server shows; it takes only clients whose certificate the CA has signed."""
        return grpc.ssl_server_credentials(
            [(_read(self.key), _read(self.certificate))],
            root_certificates=_read(self.ca),
            require_client_auth=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return what a gRPC client shows; it checks the server's certificate against the address dialled."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )

    def ssl_context(self, server: bool) -> ssl.SSLContext:
        """Return the same for plain sockets, TLS 1.3 only.

        A client passes the host that it dials, a name or an IP address without port and brackets, as
        ``server_hostname`` to ``wrap_socket``; without one the connection is refused.

        Raises:
            ConfigError: If the files are no certificates, or the key belongs to another one.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.ca)
            # Without a password no prompt: a key that is encrypted is an error.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise ConfigError(f"{self.certificate} and {self.key} cannot be used: {reason}") from error
        return context


@dataclass(frozen=True, slots=True)
class Access:
    """What this process shows to others and asks of them: certificates, a join token, both, or neither."""

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
        """Return the access that options and environment describe; an option wins.

        Args:
            identity: ``FOLDER/NAME`` of the certificate; else ``EDGEFLOW_IDENTITY``.
            token_file: A file that holds the token; else ``EDGEFLOW_TOKEN_FILE``, else the token itself in
                ``EDGEFLOW_TOKEN``.
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
        """What a control call carries."""
        return () if self.token is None else ((TOKEN_KEY, self.token),)

    def admits(self, token: str | bytes | None) -> bool:
        """Whether a caller that shows ``token`` may make control calls; takes as long for every token."""
        if self.token is None:
            return True
        shown = token.encode() if isinstance(token, str) else token or b""
        # Digests have one length, so that not even the length of the right token can be timed.
        return hmac.compare_digest(_digest(shown), _digest(self.token.encode()))


def check_token(text: bytes, *, where: str) -> str:
    """Return a join token, without the space around it.

    Raises:
        ConfigError: If it is too short or too long, or holds what metadata of a call cannot carry.
    """
    token = text.strip()
    if not MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS:
        raise ConfigError(
            f"{where}: a join token has {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} characters, "
            f"this one has {len(token)}; `edgeflow certs` makes one"
        )
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise ConfigError(f"{where}: a join token is printable ASCII without spaces")
    return token.decode("ascii")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
