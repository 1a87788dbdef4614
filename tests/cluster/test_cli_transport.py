"""``--transport``: what a command asks for is what carries its frames, between real workers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgeflow.cli.app import app
from edgeflow.net.transport.grpc_ import GrpcTransport
from edgeflow.net.transport.tcp import TcpTransport
from tests.cluster.conftest import Workers

pytest.importorskip("torch")

#: The client with each of two workers, and these with each other.
NUM_CONNECTIONS = 3


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many connections were made over each transport, by the command and by the workers."""
    made: Counter[str] = Counter()
    for transport in (TcpTransport, GrpcTransport):

        def dial(self: Any, *args: Any, real: Any = transport.dial, **options: Any) -> Any:
            connection = real(self, *args, **options)
            made[self.name] += 1
            return connection

        monkeypatch.setattr(transport, "dial", dial)
    return made


def verify(addresses: list[str], *more: str) -> Result:
    command = ["verify", "mlp", "--speeds", "1,1", "--strategy", "megatron"]
    return CliRunner().invoke(app, [*command, "--workers", ",".join(addresses), *more])


@pytest.mark.parametrize(
    ("asked", "used"),
    [(("--transport", "grpc"), "grpc"), (("--transport", "tcp"), "tcp"), (("--transport", "auto"), "tcp")],
    ids=lambda value: value[-1] if isinstance(value, tuple) else value,
)
def test_verify_goes_the_way_that_was_asked_for(
    workers: Workers, dialled: Counter[str], asked: tuple[str, str], used: str
) -> None:
    result = verify(workers.start(2), *asked)

    assert result.exit_code == 0, result.output
    assert result.stdout.count("PASS") == 2
    assert dialled == {used: NUM_CONNECTIONS}


def test_a_worker_that_does_not_offer_it(workers: Workers, dialled: Counter[str]) -> None:
    addresses = workers.start(1) + workers.start(1, transport="grpc")
    result = verify(addresses, "--transport", "tcp")

    assert result.exit_code == 3
    assert "ranks [1] do not offer tcp" in result.stderr
    assert verify(addresses).exit_code == 0
    assert dialled == {"grpc": NUM_CONNECTIONS}
