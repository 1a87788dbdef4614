"""Prove that a connection of the data plane belongs to the epoch that it names.

The coordinator draws a key for each epoch and sends it to the epoch's workers in `Prepare`, a control call
that needs the join token. A hello carries a digest, keyed with this key, of the epoch, the dialling rank and
the dialled rank. So the number of an epoch, which logs and `Describe` show, is not enough to connect. An
overheard hello is valid only from one rank to one other rank, and a worker accepts one connection from each
rank per epoch.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import time
from typing import Final

from edgeflow.errors import AccessDeniedError, ConfigError
from edgeflow.net.transport.base import Hello

_KEY_BYTES: Final = 32
_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64
_FIELDS: Final = struct.Struct("<Qqq")


def new_epoch() -> int:
    """Return a practically unique number for an epoch: the time in milliseconds, then 20 random bits."""
    return (time.time_ns() // 1_000_000 << 20) | secrets.randbits(20)


def new_key() -> bytes:
    """Return a random key for one epoch."""
    return secrets.token_bytes(_KEY_BYTES)


def check_key(key: bytes) -> None:
    """Raise `ConfigError` if ``key`` is too short to be secret, or too long."""
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise ConfigError(
            f"the key of an epoch must have {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes, got {len(key)}"
        )


def prove(key: bytes, epoch: int, *, source: int, target: int) -> Hello:
    """Return the hello of rank ``source`` to rank ``target``."""
    return Hello(epoch, source, _digest(key, epoch, source, target))


def check_proof(key: bytes, hello: Hello, *, target: int) -> None:
    """Raise `AccessDeniedError` if the sender of ``hello`` to rank ``target`` does not have the key."""
    if not hmac.compare_digest(hello.proof, _digest(key, hello.epoch, hello.rank, target)):
        raise AccessDeniedError(
            f"epoch {hello.epoch}: the caller has not proved that it is rank {hello.rank} of this epoch"
        )


def _digest(key: bytes, epoch: int, source: int, target: int) -> bytes:
    return hashlib.blake2b(
        _FIELDS.pack(epoch, source, target), key=key, digest_size=32, person=b"edgeflow-hello"
    ).digest()
