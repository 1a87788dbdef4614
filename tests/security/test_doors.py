"""Attempts to get in: each must end with an error, and the worker must go on serving its own."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import edgeflow as ef
from edgeflow._proto.edgeflow.v1 import worker_pb2 as pb
from edgeflow._proto.edgeflow.v1 import worker_pb2_grpc
from edgeflow.coordinator.client import WorkerClient
from edgeflow.errors import (
    AccessDeniedError,
    ConfigError,
    EdgeflowError,
    StalePlanError,
    WorkerUnreachableError,
)
from edgeflow.net.address import check_bind
from edgeflow.net.proof import check_proof, new_key, prove
from edgeflow.net.security import Access, Credentials
from edgeflow.net.transport.base import Hello
from edgeflow.net.transport.grpc_ import METHOD, SERVICE, GrpcTransport, open_channel
from edgeflow.net.wire import Frame, Header
from edgeflow.net.wire import encode as encode_frame
from edgeflow.plan.program import CLIENT
from tests.conftest import TOKEN
from tests.security.conftest import Guarded
from tests.security.test_credentials import expired

torch = pytest.importorskip("torch")

WAIT_S = 3.0

#: Calls wait for a connection, and handshakes are retried, so a refused call lasts as long as it may.
REFUSED_S = 0.2


def describe(address: str, access: Access, *, timeout_s: float = WAIT_S) -> str:
    client = WorkerClient(address, 0, access)
    try:
        return client.describe(timeout_s=timeout_s).name
    finally:
        client.close()


def check_refused(address: str, access: Access) -> None:
    """Check that handshakes fail, which the channel reports, and that a call then has no answer."""
    has_failed = threading.Event()

    def watch(state: grpc.ChannelConnectivity) -> None:
        assert state is not grpc.ChannelConnectivity.READY
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            has_failed.set()

    with open_channel(address, access.credentials) as channel:
        channel.subscribe(watch, try_to_connect=True)
        assert has_failed.wait(WAIT_S)
    with pytest.raises(WorkerUnreachableError):
        describe(address, access, timeout_s=REFUSED_S)


@pytest.fixture(scope="module")
def plan() -> ef.Plan:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()).eval()
    graph = ef.capture(module, (torch.randn(1, 3, 16, 16),))
    return ef.plan(graph, ef.Cluster.local([1.0, 1.0], bandwidth="100 Gbit/s"), strategy="modnn")


def test_a_session_over_mutual_tls_with_a_token(guarded: Guarded, access: Access, plan: ef.Plan) -> None:
    workers = [guarded.start(access), guarded.start(access)]
    assert len(plan.devices) == 2  # so that workers dial each other too
    x = torch.randn(1, 3, 16, 16)
    with ef.deploy(plan, workers=workers, access=access) as session:
        assert torch.allclose(session.run(x), ef.execute(plan, (x,)), atol=1e-6)


def test_names_work_as_well_as_addresses(guarded: Guarded, access: Access) -> None:
    address = guarded.start(access)
    assert describe(address.replace("127.0.0.1", "localhost"), access)


def test_a_certificate_of_another_authority(guarded: Guarded, access: Access, strangers: Path) -> None:
    address = guarded.start(access)
    check_refused(address, Access(Credentials.load(strangers, "here"), TOKEN))
    assert describe(address, access)


def test_a_client_with_the_right_ca_and_the_wrong_certificate(
    guarded: Guarded, access: Access, certificates: Path, strangers: Path
) -> None:
    """It believes the server, so what fails is that the server believes it."""
    address = guarded.start(access)
    mixed = Credentials(certificates / "ca.pem", strangers / "here.pem", strangers / "here.key")
    check_refused(address, Access(mixed, TOKEN))


def test_a_client_without_a_certificate(guarded: Guarded, access: Access, certificates: Path) -> None:
    address = guarded.start(access)
    root = grpc.ssl_channel_credentials(root_certificates=(certificates / "ca.pem").read_bytes())
    with grpc.secure_channel(address, root) as channel, pytest.raises(grpc.RpcError) as caught:
        worker_pb2_grpc.WorkerStub(channel).Describe(pb.DescribeRequest(), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_in_the_clear(guarded: Guarded, access: Access) -> None:
    address = guarded.start(access)
    check_refused(address, Access(None, TOKEN))


def test_a_worker_in_the_clear_gets_no_token(access: Access) -> None:
    """A client with credentials never falls back: whoever listens sees neither token nor program."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(WorkerUnreachableError):
            describe(address, access, timeout_s=REFUSED_S)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(WAIT_S)
            first = connection.recv(4096)
    assert first[:1] == b"\x16"  # a TLS handshake
    assert TOKEN.encode() not in first


def test_an_expired_client(guarded: Guarded, access: Access, certificates: Path, tmp_path: Path) -> None:
    address = guarded.start(access)
    check_refused(address, Access(expired(tmp_path, certificates), TOKEN))


def test_an_expired_worker(guarded: Guarded, access: Access, certificates: Path, tmp_path: Path) -> None:
    address = guarded.start(Access(expired(tmp_path, certificates), TOKEN))
    check_refused(address, access)


def test_a_worker_that_is_another_host(guarded: Guarded, access: Access, certificates: Path) -> None:
    """A certificate of the same cluster, but not for the address that was dialled."""
    address = guarded.start(Access(Credentials.load(certificates, "elsewhere"), TOKEN))
    check_refused(address, access)


@pytest.mark.parametrize("token", [None, "the-wrong-token-of-this-cluster", TOKEN + "x", TOKEN[:-1]])
def test_a_wrong_token(guarded: Guarded, access: Access, token: str | None) -> None:
    address = guarded.start(access)
    with pytest.raises(AccessDeniedError, match="join token is missing or wrong"):
        describe(address, Access(access.credentials, token))
    assert describe(address, access)


def test_several_tokens_in_one_call(guarded: Guarded) -> None:
    address = guarded.start(Access(token=TOKEN))
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        metadata = [("edgeflow-token", "guess" * 4), ("edgeflow-token", TOKEN)]
        worker_pb2_grpc.WorkerStub(channel).Describe(pb.DescribeRequest(), timeout=WAIT_S, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", [m.name for m in pb.DESCRIPTOR.services_by_name["Worker"].methods])
def test_every_control_call_asks_for_the_token(guarded: Guarded, method: str) -> None:
    """Before a message is read: the stream below sends none."""
    address = guarded.start(Access(token=TOKEN))
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        call = channel.stream_stream(f"/edgeflow.v1.Worker/{method}")
        list(call(iter(()), timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_probe_needs_no_token_and_watching_does(guarded: Guarded) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    address = guarded.start(Access(token=TOKEN))
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert stub.Check(request, timeout=WAIT_S).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(request, timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


# Binding.


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.168.1.2:7070", "pi4:7070"])
def test_a_bind_that_others_can_reach_needs_certificates(bind: str, access: Access) -> None:
    with pytest.raises(ConfigError, match=r"--identity.*--insecure"):
        check_bind(bind, insecure=False, access=Access(token=TOKEN))
    check_bind(bind, insecure=False, access=access)
    check_bind(bind, insecure=True)


# The data plane: connections prove their epoch.


class Silent:
    def admit(self, header: Header) -> None:
        pass

    def on_frame(self, frame: Frame) -> None:
        pass

    def on_lost(self, error: EdgeflowError | None) -> None:
        pass


def test_knowing_an_epoch_is_not_enough(guarded: Guarded, plan: ef.Plan) -> None:
    workers = [guarded.start(None), guarded.start(None)]
    transport = GrpcTransport()
    with ef.deploy(plan, workers=workers) as session:
        epoch = guarded.servers[0].worker.status()[0].epoch
        hellos = [
            Hello(epoch, CLIENT),
            Hello(epoch, CLIENT, bytes(32)),
            Hello(epoch, CLIENT, bytes(64)),
            prove(new_key(), epoch, source=CLIENT, target=0),
            prove(new_key(), epoch, source=1, target=0),
        ]
        for hello in hellos:
            with pytest.raises(AccessDeniedError, match="has not proved"):
                transport.dial(workers[0], hello, Silent(), timeout_s=WAIT_S)
        session.run(torch.zeros(1, 3, 16, 16))
    transport.close()


def test_a_replayed_hello(guarded: Guarded, plan: ef.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was overheard opens neither the same door again nor another one."""
    overheard: list[Hello] = []

    def listen(key: bytes, epoch: int, *, source: int, target: int) -> Hello:
        hello = prove(key, epoch, source=source, target=target)
        if target == 0:
            overheard.append(hello)
        return hello

    monkeypatch.setattr("edgeflow.coordinator.epoch.prove", listen)
    workers = [guarded.start(None), guarded.start(None)]
    transport = GrpcTransport()
    with ef.deploy(plan, workers=workers) as session:
        (hello,) = overheard
        with pytest.raises(StalePlanError, match="no connection from rank -1 is due"):
            transport.dial(workers[0], hello, Silent(), timeout_s=WAIT_S)
        with pytest.raises(AccessDeniedError):
            transport.dial(workers[1], hello, Silent(), timeout_s=WAIT_S)
        session.run(torch.zeros(1, 3, 16, 16))
    with pytest.raises(StalePlanError):
        transport.dial(workers[0], hello, Silent(), timeout_s=WAIT_S)
    transport.close()


@pytest.mark.parametrize("change", [{"epoch": 8}, {"source": 2}, {"target": 2}])
def test_a_proof_is_good_for_one_pair_in_one_epoch(change: dict[str, int]) -> None:
    key = new_key()
    said = {"epoch": 7, "source": 0, "target": 1}
    proof = prove(key, 7, source=0, target=1).proof
    claimed = said | change
    hello = Hello(claimed["epoch"], claimed["source"], proof)
    with pytest.raises(AccessDeniedError):
        check_proof(key, hello, target=claimed["target"])
    check_proof(key, Hello(7, 0, proof), target=1)


@pytest.mark.parametrize("key", [b"", b"short", bytes(65)])
def test_an_epoch_without_a_key_is_not_prepared(guarded: Guarded, plan: ef.Plan, key: bytes) -> None:
    address = guarded.start(None)
    client = WorkerClient(address, 0)
    program = plan.programs[0]
    from edgeflow.net.content import content_of

    contents = [
        content_of(
            np.ascontiguousarray(
                plan.graph.weights[w.tensor][tuple(slice(a, b) for a, b in w.region.intervals)]
            ),
            dtype=w.dtype,
        )
        for w in program.weights
    ]
    try:
        with pytest.raises(ConfigError, match="key of an epoch must have 16 to 64 bytes"):
            client.prepare(
                5,
                program,
                fingerprint="",
                peers={0: "a:1", 1: "b:1"},
                contents=contents,
                key=key,
                timeout_s=WAIT_S,
            )
    finally:
        client.close()


# Those who say nothing, or too much.


def test_a_stream_without_a_hello_is_ended(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    address = guarded.start(None)
    exchange = guarded.servers[0]._exchange
    monkeypatch.setattr(exchange, "_hello_timeout_s", 0.3)
    with grpc.insecure_channel(address) as channel:
        started_s = time.monotonic()
        silent = iter(lambda: time.sleep(0.1) or _keep_waiting(started_s), None)
        call = channel.stream_stream(
            f"/{SERVICE}/{METHOD}", request_serializer=None, response_deserializer=None
        )
        with pytest.raises(grpc.RpcError):
            list(call(silent, timeout=WAIT_S))
        assert time.monotonic() - started_s < 2.0
    assert describe(address, Access())


def _keep_waiting(started_s: float) -> None:
    """End the iterator of a client that never sends, at some time."""
    while time.monotonic() - started_s < 1.5:
        time.sleep(0.05)


def test_connections_that_say_nothing_do_not_hold_a_thread(guarded: Guarded, access: Access) -> None:
    """Slow clients at the level of TCP and TLS hold no thread: others are served meanwhile."""
    address = guarded.start(access)
    host, _, port = address.rpartition(":")
    idle = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(150)]
    try:
        for connection in idle:
            connection.sendall(b"\x16\x03\x01")  # the beginning of a handshake, and nothing after it
        assert describe(address, access)
    finally:
        for connection in idle:
            connection.close()


def test_a_hello_with_too_much_in_it(guarded: Guarded) -> None:
    address = guarded.start(None)
    big = b"".join(encode_frame(Hello(5, CLIENT, bytes(65)).frame()))
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        call = channel.stream_stream(
            f"/{SERVICE}/{METHOD}", request_serializer=None, response_deserializer=None
        )
        list(call(iter([big]), timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "65 bytes, the limit is 64" in caught.value.details()


def test_metadata_that_is_too_large(guarded: Guarded) -> None:
    address = guarded.start(Access(token=TOKEN))
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        metadata = [("x", "y" * 100_000)]
        worker_pb2_grpc.WorkerStub(channel).Describe(pb.DescribeRequest(), timeout=WAIT_S, metadata=metadata)
    assert caught.value.code() is not grpc.StatusCode.OK
    assert describe(address, Access(token=TOKEN))


def test_local_workers_have_a_token_of_their_own(
    plan: ef.Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Other users of this machine can reach the ports of ``deploy(local=True)``."""
    monkeypatch.setenv("EDGEFLOW_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("EDGEFLOW_TOKEN", "what-we-show-to-somebody-else")
    with ef.deploy(plan, local=True) as session:
        any_session: Any = session
        address = next(iter(any_session._addresses.values()))
        with pytest.raises(AccessDeniedError):
            describe(address, Access())
        with pytest.raises(AccessDeniedError):
            describe(address, Access(token="what-we-show-to-somebody-else"))
        for pid in session.worker_pids.values():
            assert "token" not in Path(f"/proc/{pid}/cmdline").read_text().lower()
