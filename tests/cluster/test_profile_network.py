"""Measuring frames over the loopback interface, and the network to a worker."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import edgeflow as ef
from edgeflow.cli.app import app
from edgeflow.cost.model import MESSAGE_OVERHEAD_S
from edgeflow.errors import AccessDeniedError, WorkerUnreachableError
from edgeflow.measure.frames import measure_copies, measure_frames
from edgeflow.measure.peers import measure_peer
from edgeflow.net.security import Access
from edgeflow.net.transport.base import Connection
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import Frame
from tests.cluster.conftest import Workers
from tests.conftest import TOKEN
from tests.unit.plan.tiny import mlp


def test_frames_cost_something_and_larger_ones_more() -> None:
    cost = measure_frames()

    assert min(cost.send_s, cost.receive_s, cost.pack_s_per_byte) > 0
    assert cost.send_s_per_byte >= 0


def test_calibration_takes_the_frames_of_this_machine() -> None:
    cost = ef.calibrate(mlp(), ef.Cluster.local([1.0]), (torch.ones(2, 4),), repeats=1, slices_s=0)

    assert cost.message_overhead_s != MESSAGE_OVERHEAD_S
    assert cost.message_s(0) == cost.message_overhead_s > 0


def test_copies_cost_something() -> None:
    cost = measure_copies()

    assert min(cost.call_s, cost.s_per_byte, cost.stream_s_per_byte) > 0


@pytest.mark.parametrize(
    ("offered", "asked", "used"),
    [("auto", "auto", "TCP"), ("auto", "grpc", "gRPC"), ("grpc", "auto", "gRPC")],
)
def test_the_network_to_a_worker(workers: Workers, offered: str, asked: str, used: str) -> None:
    """Over the way that a plan's frames would take."""
    (address,) = workers.start(1, transport=offered)

    link = measure_peer(address, transport=asked)

    assert link.address == address
    assert link.name
    assert 0 < link.latency_s < 5
    assert link.bandwidth_bytes_per_s > 0
    assert link.method.startswith(f"{used}: half of the median round trip")
    assert workers.held_epochs == 0


@pytest.mark.parametrize(("offered", "used"), [("auto", "TCP"), ("grpc", "gRPC")])
def test_the_network_to_a_worker_that_wants_a_certificate_and_a_token(
    workers: Workers, access: Access, offered: str, used: str
) -> None:
    (address,) = workers.start(1, access=access, transport=offered)

    link = measure_peer(address, access=access)

    assert link.bandwidth_bytes_per_s > 0
    assert link.method.startswith(f"{used} under TLS: ")
    with pytest.raises(AccessDeniedError, match="join token"):
        measure_peer(address, access=Access(access.credentials))
    with pytest.raises(WorkerUnreachableError):
        measure_peer(address, access=Access(token=TOKEN), timeout_s=0.5)


def test_the_options_of_the_command_reach_the_worker(
    workers: Workers, access: Access, certificates: Path, tmp_path: Path
) -> None:
    """What stands on the command line is shown."""
    (address,) = workers.start(1, access=access)
    (tmp_path / "token").write_text(TOKEN)
    command = ["profile", "--peers", address, "--seconds", "0.1", "--json"]
    shown = ["--identity", str(certificates / "here"), "--token-file", str(tmp_path / "token")]

    result = CliRunner().invoke(app, [*command, *shown])

    assert result.exit_code == 0, result.output
    (link,) = json.loads(result.stdout)["peers"]
    assert link["method"].startswith("TCP under TLS")
    denied = CliRunner().invoke(app, [*command, *shown[:2]])
    assert denied.exit_code == 3
    assert "join token" in denied.stderr


def test_a_port_that_is_blocked_means_grpc(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once, and what was measured is said."""
    (address,) = workers.start(1)
    tried = []

    def dial(self: TcpTransport, address: str, *args: Any, **options: Any) -> Connection:
        tried.append(address)
        raise WorkerUnreachableError(f"{address} cannot be reached: blocked")

    monkeypatch.setattr(TcpTransport, "dial", dial)

    assert measure_peer(address).method.startswith("gRPC: ")
    assert len(tried) == 1
    with pytest.raises(WorkerUnreachableError, match="blocked"):
        measure_peer(address, transport="tcp")
    workers.wait_until_free()


def test_larger_frames_take_longer_until_they_take_long_enough(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link of 4 MB/s and 5 ms: found again, with frames no larger than needed."""
    real = TcpTransport.dial

    class Slow:
        def __init__(self, inner: Connection) -> None:
            self.inner, self.close = inner, inner.close

        def send(self, frame: Frame) -> None:
            sizes.append(frame.array.nbytes)
            time.sleep(10e-3 + frame.array.nbytes / 4e6)
            self.inner.send(frame)

    def dial(self: TcpTransport, *args: Any, **options: Any) -> Slow:
        return Slow(real(self, *args, **options))

    sizes: list[int] = []
    monkeypatch.setattr(TcpTransport, "dial", dial)
    (address,) = workers.start(1)

    link = measure_peer(address)

    assert sorted(set(sizes)) == [1, 64 << 10, 256 << 10, 1 << 20]
    assert link.latency_s >= 5e-3
    assert 2e6 < link.bandwidth_bytes_per_s < 4.4e6
    assert "frames of 1.0 MiB" in link.method


def test_a_worker_that_does_not_answer(workers: Workers) -> None:
    (address,) = workers.start(1)
    stop = threading.Event()
    workers.servers[0].worker._rank.on_frame = lambda *_: stop.wait(5)  # type: ignore[method-assign,assignment]
    try:
        with pytest.raises(WorkerUnreachableError, match=r"had no answer in 0\.3 s"):
            measure_peer(address, timeout_s=0.3)
    finally:
        stop.set()


def test_nobody_there() -> None:
    with pytest.raises(WorkerUnreachableError, match=r"127\.0\.0\.1:9 .*cannot be reached"):
        measure_peer("127.0.0.1:9", timeout_s=0.3)
