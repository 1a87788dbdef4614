"""The proof that a connection of the data plane belongs to the epoch that it names.

The coordinator draws a key for each epoch and hands it to the epoch's workers in `Prepare`, a control call
that only who has the join token can make. A hello carries a digest, keyed with it, of who dials whom in which
epoch. So the number of an epoch, which logs and `Describe` show, opens nothing; a hello that was overheard is
good for one rank of one worker only, and there an epoch takes one connection of each rank, once.
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
    """Return a number that no other deployment has: the time in milliseconds, then 20 random bits."""
    return (time.time_ns() // 1_000_000 << 20) | secrets.randbits(20)


def new_key() -> bytes:
    """Return a key for one epoch."""
    return secrets.token_bytes(_KEY_BYTES)


def check_key(key: bytes) -> None:
    """Raise `ConfigError` if ``key`` is too short to be a secret, or too long."""
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise ConfigError(
            f"the key of an epoch has {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes, this one has {len(key)}"
        )


def prove(key: bytes, epoch: int, *, source: int, target: int) -> Hello:
    """Return the hello of rank ``source`` to rank ``target``."""
    return Hello(epoch, source, _digest(key, epoch, source, target))


def check_proof(key: bytes, hello: Hello, *, target: int) -> None:
    """Raise `AccessDeniedError` if whoever says ``hello`` to rank ``target`` does not have the key."""
    if not hmac.compare_digest(hello.proof, _digest(key, hello.epoch, hello.rank, target)):
        raise AccessDeniedError(
            f"epoch {hello.epoch}: who calls itself rank {hello.rank} has not proved that it belongs to it"
        )


def _digest(key: bytes, epoch: int, source: int, target: int) -> bytes:
    return hashlib.blake2b(
        _FIELDS.pack(epoch, source, target), key=key, digest_size=32, person=b"edgeflow-hello"
    ).digest()
