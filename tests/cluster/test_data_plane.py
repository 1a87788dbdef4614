"""Which way activations go between real workers, and that TCP keeps its promises there."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.errors import ConfigError, WorkerUnreachableError
from edgeflow.net.security import Access, Credentials
from edgeflow.net.transport import tcp as tcp_module
from edgeflow.net.transport.base import Connection, Handler, Hello
from edgeflow.net.transport.tcp import TcpTransport
from edgeflow.net.wire import encode_header
from edgeflow.rank.pages import PAGE_BYTES
from tests.cluster.test_transport import HELLO, TRANSPORTS, WAIT_S, Pair, Recorder, tensor

torch = pytest.importorskip("torch")

from tests.clusters import slow  # noqa: E402


class Blocked:
    """A socket that is bound and does not listen: who dials it is refused, and nobody else gets the port."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def plan(graph: ef.ModelGraph) -> ef.Plan:
    return ef.plan(graph, slow([1.0, 0.6, 0.4]), strategy="coedge")


def run(plan: ef.Plan, addresses: list[str], transport: str) -> Any:
    with ef.deploy(plan, workers=addresses, timeout_s=WAIT_S, transport=transport) as session:
        return session.run(torch.ones(1, 3, 32, 32))


def num_tcp_connections(workers: Any) -> int:
    return sum(len(server._listener._served) for server in workers.servers if server._listener)


def test_frames_go_over_tcp_where_all_offer_it(plan: ef.Plan, workers: Any) -> None:
    addresses = workers.start(3)
    with ef.deploy(plan, workers=addresses, timeout_s=WAIT_S) as session:
        answer = session.run(torch.ones(1, 3, 32, 32))
        # The client with each, and each pair of neighbours.
        assert num_tcp_connections(workers) >= 5
    assert torch.equal(answer, run(plan, addresses, "grpc"))


def test_one_worker_without_tcp_means_grpc_for_all(plan: ef.Plan, workers: Any) -> None:
    addresses = workers.start(2) + workers.start(1, transport="grpc")
    with ef.deploy(plan, workers=addresses, timeout_s=WAIT_S) as session:
        session.run(torch.ones(1, 3, 32, 32))
        assert num_tcp_connections(workers) == 0
    with pytest.raises(ConfigError, match=r"ranks \[2\] do not offer tcp"):
        run(plan, addresses, "tcp")


def test_a_port_that_is_blocked_means_grpc(
    plan: ef.Plan, workers: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Offered, but not to be reached: each connection to that worker goes over gRPC, the others do not."""
    addresses = workers.start(3)
    expected = run(plan, addresses, "grpc")
    blocked = Blocked()
    real = tcp_module.TcpTransport._connect

    def connect(self: TcpTransport, address: str, hello: Hello, timeout_s: float) -> Any:
        is_first = address == workers.servers[0]._listener.address
        return real(self, f"127.0.0.1:{blocked.port}" if is_first else address, hello, timeout_s)

    monkeypatch.setattr(tcp_module.TcpTransport, "_connect", connect)
    try:
        with ef.deploy(plan, workers=addresses, timeout_s=WAIT_S) as session:
            assert torch.equal(session.run(torch.ones(1, 3, 32, 32)), expected)
            assert [bool(server._listener._served) for server in workers.servers] == [False, True, True]
        messages = [record for record in caplog.records if record.message == "transport.unavailable"]
        assert messages and "refused" in str(vars(messages[0]))
        with pytest.raises(WorkerUnreachableError, match="refused"):
            run(plan, addresses, "tcp")
    finally:
        blocked.close()


def test_buffers_of_a_worker_take_what_the_plan_says(workers: Any) -> None:
    """Receives and assembles use pages again: never more at once than predicted, and no more with time."""
    module = torch.nn.Sequential(*[torch.nn.MaxPool2d(3, 1, 1) for _ in range(4)]).eval()
    x = torch.randn(1, 8, 256, 512, generator=torch.Generator().manual_seed(0))
    plan = ef.plan(ef.capture(module, (x,)), slow([1.0, 0.6, 0.4]), strategy="coedge")
    addresses = workers.start(3)
    with ef.deploy(plan, workers=addresses, timeout_s=WAIT_S) as session:
        held = []
        for _ in range(6):
            assert torch.equal(session.run(x), module(x))
            held.append([server.worker.pool.held_bytes for server in workers.servers])
        for rank, server in enumerate(workers.servers):
            program = plan.programs[rank]
            most = program.peak_bytes + PAGE_BYTES * len(program.buffers)
            assert 0 < server.worker.pool.peak_bytes <= most, (rank, server.worker.pool.peak_bytes, most)
        assert held[-1] == held[2]


# What only TCP has.


@pytest.fixture(params=["tcp", "tcp-tls"])
def pair(request: pytest.FixtureRequest, access: Access) -> Any:
    pair = Pair(TRANSPORTS[request.param](access))
    yield pair
    pair.close()


def test_a_connection_that_breaks_is_a_loss(pair: Pair) -> None:
    mine, theirs = pair.connect()
    mine._stream.cut()  # type: ignore[attr-defined]  # as when the process is killed
    error = pair.there.lost.get(timeout=WAIT_S)
    assert isinstance(error, WorkerUnreachableError) and "is gone" in str(error)
    with pytest.raises(WorkerUnreachableError):
        for _ in range(100):
            theirs.send(tensor(1))
            time.sleep(0.01)


def test_a_side_that_has_gone_silent_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lost its power closes nothing: here it is a socket that answers no question."""
    monkeypatch.setattr(tcp_module, "IDLE_S", 0.1)
    silent = socket.create_server(("127.0.0.1", 0))
    recorder, transport = Recorder(), TcpTransport()

    def answer_hello() -> None:
        peer, _ = silent.accept()
        peer.sendall(peer.recv(100))
        stop.wait(WAIT_S)
        peer.close()

    stop = threading.Event()
    thread = threading.Thread(target=answer_hello)
    thread.start()
    try:
        transport.dial(f"127.0.0.1:{silent.getsockname()[1]}", HELLO, recorder, timeout_s=WAIT_S)
        error = recorder.lost.get(timeout=WAIT_S)
        assert isinstance(error, WorkerUnreachableError) and "has sent nothing" in str(error)
    finally:
        stop.set()
        thread.join()
        transport.close()
        silent.close()


def test_an_idle_connection_stays(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "IDLE_S", 0.05)
    mine, _ = pair.connect()
    time.sleep(0.5)
    mine.send(tensor(1))
    assert pair.there.frames.get(timeout=WAIT_S).tag == 1
    assert pair.there.lost.empty() and pair.here.lost.empty()


def test_a_frame_is_on_its_way_until_nothing_moves(pair: Pair) -> None:
    mine, theirs = pair.connect()

    def wait_until_carrying(expected: bool) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while theirs.is_carrying != expected:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    wait_until_carrying(False)  # what opened the connection is acknowledged a moment later
    stream = mine._stream  # type: ignore[attr-defined]
    stream.send_now(stream.seal([memoryview(encode_header(tensor(1)))[:10]]))
    wait_until_carrying(True)
    wait_until_carrying(False)


def test_a_port_that_takes_connections_and_says_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(WorkerUnreachableError, match=r"no answer in 0\.3 s"),
    ):
        TcpTransport().dial(f"127.0.0.1:{server.getsockname()[1]}", HELLO, Recorder(), timeout_s=0.3)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n" + bytes(40), encode_header(tensor(1))])
def test_strangers_are_cut_off(pair: Pair, said: bytes) -> None:
    """Whatever is no hello ends the connection, and the listener goes on."""
    address = pair.listen()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as stranger:
        stranger.sendall(said)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(4096):
            pass
    pair.dial(address).send(tensor(4))
    assert pair.there.frames.get(timeout=WAIT_S).tag == 4


def test_more_connections_than_the_limit_are_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "MAX_CONNECTIONS", 2)
    address = pair.listen()
    pair.dial(address)
    pair.dial(address)
    with pytest.raises(WorkerUnreachableError):
        pair.dial(address)


# TLS: what passes without it, `test_transport.py` checks under it too.


def test_who_has_no_certificate_is_not_let_in(access: Access, strangers: Path) -> None:
    listener = TcpTransport(access.credentials).listen("", _never)
    try:
        with pytest.raises(WorkerUnreachableError):
            TcpTransport().dial(listener.address, HELLO, Recorder(), timeout_s=2.0)
        stranger = TcpTransport(Credentials.load(strangers, "here"))
        with pytest.raises(WorkerUnreachableError, match="TLS handshake failed"):
            stranger.dial(listener.address, HELLO, Recorder(), timeout_s=WAIT_S)
    finally:
        listener.close()


def _never(hello: Hello, connection: Connection) -> Handler:
    raise AssertionError("nobody should get this far")
