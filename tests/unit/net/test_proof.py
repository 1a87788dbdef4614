"""Proofs of an epoch: valid for one pair of ranks in one epoch, with the epoch's key."""

from __future__ import annotations

import time

import pytest

from edgeflow.errors import AccessDeniedError, ConfigError
from edgeflow.net.proof import check_key, check_proof, new_epoch, new_key, prove
from edgeflow.net.transport.base import MAX_HELLO_BYTES, Hello

KEY = bytes(range(32))


def test_a_proof_is_golden() -> None:
    """Workers of another build check these bytes."""
    hello = prove(KEY, 7, source=-1, target=2)
    assert (hello.epoch, hello.rank) == (7, -1)
    assert hello.proof.hex() == "8e2bb52e8f69927aedc5cab5d05eed84a6bb538deccbdc0f9aa1513d4109e4fe"
    assert len(hello.proof) <= MAX_HELLO_BYTES


def test_the_right_proof_is_accepted_and_no_other() -> None:
    hello = prove(KEY, 7, source=0, target=1)
    check_proof(KEY, hello, target=1)
    wrong = [
        (new_key(), hello, 1),
        (KEY, hello, 0),
        (KEY, Hello(8, 0, hello.proof), 1),
        (KEY, Hello(7, 1, hello.proof), 1),
        (KEY, Hello(7, 0, hello.proof[:-1]), 1),
        (KEY, Hello(7, 0), 1),
    ]
    for key, said, target in wrong:
        with pytest.raises(AccessDeniedError, match=f"epoch {said.epoch}: .* rank {said.rank}"):
            check_proof(key, said, target=target)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_keys_of_these_lengths_are_secret_enough(size: int) -> None:
    check_key(bytes(size))


@pytest.mark.parametrize("size", [0, 15, 65])
def test_keys_of_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"must have 16 to 64 bytes, got {size}"):
        check_key(bytes(size))


def test_new_keys_and_epochs_differ() -> None:
    check_key(new_key())
    assert new_key() != new_key()
    epochs = [new_epoch() for _ in range(5)]
    assert len(set(epochs)) == 5
    assert all(abs((epoch >> 20) - time.time_ns() // 10**6) < 60_000 and epoch < 2**64 for epoch in epochs)
