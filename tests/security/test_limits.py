"""What would be too much is refused before it is allocated, held or walked through."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeflow.errors import (
    CodecError,
    ConfigError,
    UnsupportedOperatorError,
    WorkerFailedError,
    WorkerOverloadedError,
)
from edgeflow.net.content import Content, check_content
from edgeflow.net.transport.routes import check_address
from edgeflow.net.wire import MAX_PAYLOAD_BYTES, Decoder, decode_header
from edgeflow.plan.program import CLIENT, Buffer, Compute, Free, Kernel, Program
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Region
from edgeflow.worker import events as e
from edgeflow.worker.check import buffer_bytes, check_program
from edgeflow.worker.state import MAX_EPOCHS, MAX_PENDING, WorkerState
from edgeflow.worker.weights import WeightCache
from tests.frames import frame_bytes

HASH = "ab" * 32


@pytest.mark.parametrize(
    "message",
    [
        frame_bytes(num_bytes=1 << 63),
        frame_bytes(num_bytes=(1 << 64) - 8),  # minus eight, to whoever reads it as signed
        frame_bytes(shape=((1 << 64) - 1,)),
        frame_bytes(shape=(1 << 32, 1 << 32), num_bytes=0),  # the product is 0 modulo 2**64
        frame_bytes(shape=(1 << 31, 1 << 31, 4), num_bytes=0),
        frame_bytes(shape=(1 << 63, 2), num_bytes=0),
        frame_bytes(shape=(0, 1 << 63), num_bytes=0),
        frame_bytes(shape=(0, 1 << 31, 1 << 32), num_bytes=0),  # numpy multiplies what is not 0
        frame_bytes(shape=(0, *[1 << 31] * 15), num_bytes=0),
        frame_bytes(shape=(MAX_PAYLOAD_BYTES + 1, 0), num_bytes=0),
        frame_bytes(shape=(1 << 20,) * 16, num_bytes=8),
        frame_bytes(ndim=255),
        frame_bytes(ndim=17, shape=(1,) * 17),
        frame_bytes(kind=1, dtype=9, shape=(1 << 20,), num_bytes=1 << 20),  # a hello of a mebibyte
        frame_bytes(kind=3, dtype=9, shape=(1 << 17,), num_bytes=1 << 17),
        frame_bytes(shape=(1 << 20,), num_bytes=4 << 20),  # honest, and above this connection's limit
    ],
)
def test_a_header_that_says_too_much_is_refused_before_anything_is_allocated(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(*args: object) -> None:
        raise AssertionError(f"allocated {args}")

    monkeypatch.setattr("edgeflow.net.wire.np.empty", allocate)
    admitted: list[object] = []
    with pytest.raises(CodecError):
        Decoder(max_payload_bytes=1 << 20, admit=admitted.append).feed(message)
    assert not admitted


def test_a_header_within_the_limits_is_read() -> None:
    assert decode_header(frame_bytes()).shape == (2,)


# Names of weights are content hashes, and nothing else becomes a path.


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        HASH + "/../x",
        HASH[:-1] + "/",
        HASH.upper(),
        HASH + "\n",
        HASH[:-1] + "\0",
        HASH + "0",
        "é" * 64,
        "part-x",
    ],
)
def test_a_name_that_is_no_hash_becomes_no_path(tmp_path: Path, name: str) -> None:
    content = Content(name, "float32", (2,))
    with pytest.raises(CodecError, match="is not a content hash"):
        check_content(content, max_bytes=100)
    cache = WeightCache(tmp_path / "cache")
    for act in (cache.has, cache.load, cache.writer):
        with pytest.raises(CodecError, match="is not a content hash"):
            act(content)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_behind_a_link_is_not_believed(tmp_path: Path) -> None:
    """Whoever can write to the cache's folder can link a file of the user's into it; its bytes go nowhere."""
    cache = WeightCache(tmp_path / "cache")
    secret = tmp_path / "secret"
    secret.write_bytes(b"12345678")
    (tmp_path / "cache" / HASH).symlink_to(secret)
    with pytest.raises(WorkerFailedError, match="damaged"):
        cache.load(Content(HASH, "float32", (2,)))
    assert secret.read_bytes() == b"12345678"


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 33, 1 << 33), (1 << 63, 1 << 63, 1 << 63)])
def test_a_slice_larger_than_the_memory_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WorkerOverloadedError):
        check_content(Content(HASH, "float32", shape), max_bytes=1 << 30)


# Programs.


def one_kernel(target: str, **arguments: object) -> Program:
    step = Step(target, tuple(arguments.items()))  # type: ignore[arg-type]
    kernel = Kernel(operator="k", steps=(step,), outputs=(("y", Region.full((2,))),), flops=0, num_bytes=0)
    return Program(
        rank=0,
        instructions=(Compute(stage="s", kernels=(kernel,), inputs=(), outputs=(("y", 0),)), Free((0,))),
        buffers=(Buffer("y", Region.full((2,)), "float32"),),
        weights=(),
        peak_bytes=8,
    )


def check(program: Program, peers: dict[int, str] | None = None) -> None:
    check_program(program, rank=0, peers=peers or {0: "here:1"}, memory_limit_bytes=1 << 30)


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default",
        "aten.rand.default",
        "aten.empty.memory_format",
        "aten.add_.Tensor",
        "aten.add.out",
        "aten.as_strided.default",
        "prim.Print.default",
        "aten.conv2d",
        "os.system.default",
        "aten.__class__.default",
        "aten.add.__setattr__",
        "aten.add.Tensor\n",
        "torch.ops.aten.add.Tensor",
        "",
    ],
)
def test_an_operator_that_is_not_on_the_list_is_refused(target: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match="allow-list"):
        check(one_kernel(target))


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("aten.zeros.default", {"size": (1 << 40,)}),
        ("aten.full.default", {"size": (1 << 20, 1 << 20), "fill_value": 1.0}),
        ("aten.full.default", {"size": (1 << 62,) * 8, "fill_value": 1.0}),
        ("aten.full.default", {"size": (1 << 62,) * 64, "fill_value": 1.0}),
        ("aten.full.default", {"size": (1 << 2000,), "fill_value": 1.0}),
        ("aten.expand.default", {"self": 1.0, "size": (1 << 40,)}),
        ("aten.repeat.default", {"self": 1.0, "repeats": (1 << 40,)}),
        ("aten.arange.default", {"end": 1 << 40}),
        ("aten.arange.default", {"end": 1e300}),
        ("aten.arange.default", {"end": float("inf")}),
        ("aten.arange.default", {"end": float("nan")}),
        ("aten.arange.start_step", {"start": 0, "end": 1, "step": 1e-12}),
        ("aten.arange.start_step", {"start": 0, "end": 1, "step": 0}),
        ("aten.arange.start", {"start": -(1 << 62), "end": 0}),
        ("aten.eye.m", {"n": 1 << 20, "m": 1 << 20}),
        ("aten.linspace.default", {"start": 0, "end": 1, "steps": 1 << 40}),
        ("aten.upsample_nearest2d.vec", {"input": 1.0, "output_size": (1 << 20, 1 << 20)}),
    ],
)
def test_a_size_that_a_few_bytes_ask_for_is_refused(target: str, arguments: dict[str, object]) -> None:
    """A program of a kilobyte must not make an operator allocate a terabyte."""
    with pytest.raises(WorkerOverloadedError, match="larger than the worker's memory"):
        check(one_kernel(target, **arguments))


def test_only_overloads_are_called() -> None:
    """An overload is found as an attribute, and so would be everything else that a Python object has."""
    torch = pytest.importorskip("torch")
    from edgeflow.graph.aten import overload

    packet = torch.ops.aten.add
    others = [name for name in dir(packet) if name not in packet.overloads()]
    assert {"__setattr__", "__class__", "op", "overloads"} <= set(others)
    for name in others:
        with pytest.raises(UnsupportedOperatorError, match="has no operator"):
            overload(f"aten.add.{name}")
    assert overload("aten.add.Tensor") is torch.ops.aten.add.Tensor


def test_ordinary_sizes_pass() -> None:
    check(one_kernel("aten.full.default", size=(2,), fill_value=1.0))
    check(one_kernel("aten.arange.default", end=2))
    check(one_kernel("aten.arange.start", start=(1 << 40), end=(1 << 40) + 2))


def test_a_long_program_is_walked_through_in_time_that_grows_with_its_length() -> None:
    """All buffers stay alive, which is where the square of the length was."""

    def seconds(count: int) -> float:
        step = Step("aten.full.default", (("size", (2,)), ("fill_value", 1.0)))
        kernel = Kernel(
            operator="k", steps=(step,), outputs=(("y", Region.full((2,))),), flops=0, num_bytes=0
        )
        program = Program(
            rank=0,
            instructions=tuple(
                Compute(stage="s", kernels=(kernel,), inputs=(), outputs=(("y", i),)) for i in range(count)
            ),
            buffers=(Buffer("y", Region.full((2,)), "float32"),) * count,
            weights=(),
            peak_bytes=0,
        )
        started_s = time.process_time()
        assert buffer_bytes(program) == 8 * count
        return time.process_time() - started_s

    # Ten times the length; the square would be a hundred times the seconds.
    assert seconds(40_000) < 40 * max(seconds(4_000), 1e-3)


@pytest.mark.parametrize(
    "address",
    [
        "unix:/var/run/docker.sock",
        "unix-abstract:x",
        "vsock:1:2",
        "/etc/passwd:1",
        "http://pi4:80",
        "pi4",
        "pi4:",
        ":7070",
        "pi4:0",
        "pi4:65536",
        "pi4:-1",
        "pi4:7070\n",
        "pi4 evil:7070",
        "a,b:7070",
        "x" * 300 + ":1",
        "%2e:1",
    ],
)
def test_a_peer_is_dialled_only_at_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        check_address(address)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        check(one_kernel("aten.full.default", size=(2,), fill_value=1.0), peers={0: "here:1", 1: address})


@pytest.mark.parametrize(
    "address", ["pi4:7070", "192.168.1.2:1", "[::1]:7070", "[fe80::1%eth0]:7070", "unix:7070"]
)
def test_hosts_and_ports_are_taken(address: str) -> None:
    """A host may be called ``unix``; `open_channel` sees to it that gRPC takes it as a name."""
    check_address(address)


# What a worker holds.


def prepared(state: WorkerState, epoch: int, receives: frozenset[FrameKey] = frozenset()) -> None:
    state.handle(
        e.PrepareRequested(
            epoch=epoch, rank=0, receives=receives, peers=frozenset(), weight_bytes=0, peak_bytes=0, now_s=0.0
        )
    )


def test_epochs_that_take_no_memory_are_bounded_all_the_same() -> None:
    state = WorkerState(memory_limit_bytes=1000, early_limit_bytes=1000)
    for epoch in range(MAX_EPOCHS):
        prepared(state, epoch)
    with pytest.raises(WorkerOverloadedError, match=f"at most {MAX_EPOCHS}"):
        prepared(state, MAX_EPOCHS)
    state.handle(e.AbortRequested(0))
    prepared(state, MAX_EPOCHS)


def test_requests_that_take_no_memory_are_bounded_all_the_same() -> None:
    """Frames without payload, each of another request."""
    first, second = FrameKey(CLIENT, 0), FrameKey(CLIENT, 1)
    state = WorkerState(memory_limit_bytes=1000, early_limit_bytes=1000)
    prepared(state, 1, frozenset((first, second)))
    state.handle(e.Loaded(1))
    state.handle(e.CommitRequested(1))
    for request_id in range(MAX_PENDING):
        state.handle(r.FrameArrived(1, request_id, first, 0))
    instructions = state.handle(r.FrameArrived(1, MAX_PENDING, first, 0))
    (failure,) = [item for item in instructions if isinstance(item, r.FailRequest)]
    assert isinstance(failure.error, WorkerOverloadedError)
    # Those that are known go on.
    assert r.Keep() in state.handle(r.FrameArrived(1, 0, second, 0))


def test_the_client_of_a_session_refuses_what_it_did_not_ask_for() -> None:
    """The other direction: a worker cannot make the coordinator allocate."""
    limit = 100
    with pytest.raises(CodecError, match="the limit is 100"):
        Decoder(max_payload_bytes=limit).feed(frame_bytes(shape=(26,), num_bytes=104))
    assert np.dtype(np.float32).itemsize * 26 > limit
