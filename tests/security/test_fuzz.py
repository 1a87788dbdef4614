"""Noise and near misses for everything that reads from a network: it answers, or it raises one of our errors.

Each test draws as many inputs as `SHORT` says in the ordinary suite, and `LONG` in the slow one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgeflow as ef
from edgeflow._proto.edgeflow.v1 import registry_pb2, worker_pb2
from edgeflow.errors import CodecError, EdgeflowError
from edgeflow.kernels import make_executor
from edgeflow.net.content import content_of
from edgeflow.net.proof import new_key
from edgeflow.net.rpc_errors import CLASS_KEY, ErrorDescription, decode_description, rebuild
from edgeflow.net.transport.base import Hello
from edgeflow.net.transport.memory import MemoryNetwork, MemoryTransport
from edgeflow.net.wire import Decoder
from edgeflow.plan.program import CLIENT, encode
from edgeflow.worker.check import buffer_bytes, check_program, decode_program, peers_of
from edgeflow.worker.registry.server import RegistryServer, _Servicer
from edgeflow.worker.servicer import WorkerServicer
from edgeflow.worker.weights import WeightCache
from edgeflow.worker.worker import Worker
from tests.frames import frame_bytes

torch = pytest.importorskip("torch")

SHORT, LONG = 500, 20_000
LIMIT = 1 << 16

Fuzz = Callable[[Callable[..., None]], Callable[..., None]]


def both(**strategies: Any) -> Callable[[Any], Any]:
    """Turn a function of drawn values into a test of two lengths, the second one slow."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize(
            "count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"]
        )
        def test(count: int, request: pytest.FixtureRequest) -> None:
            target = request.getfixturevalue("target")
            checks = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
            run = given(**strategies)(lambda **drawn: function(target, **drawn))
            settings(max_examples=count, deadline=None, suppress_health_check=checks)(run)()

        test.__doc__ = function.__doc__
        return test

    return decorate


class Context:
    """A call's context without a call."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.metadata = dict(metadata)

    def abort(self, code: Any, details: str) -> None:
        self.metadata["details"] = details
        raise Exception

    def time_remaining(self) -> float:
        return 1.0


def called(method: Callable[..., Any], request: Any) -> None:
    """Call a handler; it answers, or ends the call with an error that is ours and not internal."""
    context = Context()
    try:
        method(request, context)
    except Exception as error:
        assert type(error) is Exception and not error.args, error
        assert CLASS_KEY in context.metadata
        assert "internal error" not in context.metadata["details"], context.metadata


class Target:
    """A worker, its servicer, a registry's servicer, and one good program."""

    def __init__(self, folder: Path) -> None:
        module = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU()).eval()
        graph = ef.capture(module, (torch.zeros(1, 2, 6, 6),))
        plan = ef.plan(graph, ef.Cluster.local([1.0, 1.0]), strategy="modnn")
        self.program = plan.programs[0]
        self.document = json.loads(encode(self.program))
        self.contents = [
            content_of(
                graph.weights[w.tensor][tuple(slice(a, b) for a, b in w.region.intervals)].copy(),
                dtype=w.dtype,
            )
            for w in self.program.weights
        ]
        self.worker = Worker(
            executor=make_executor("torch"),
            transport=MemoryTransport(MemoryNetwork()),
            cache=WeightCache(folder),
            memory_limit_bytes=1 << 26,
        )
        self.servicer = WorkerServicer(self.worker, name="w", version="0", num_threads=1, data_ports={})
        self.registry = RegistryServer("127.0.0.1:0")
        self.registry_servicer = _Servicer(self.registry)

    def forget(self) -> None:
        for status in self.worker.status():
            self.worker.abort(status.epoch)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    made = Target(tmp_path_factory.mktemp("cache"))
    yield made
    made.worker.close()
    made.registry.stop()


# Frames.


def fed(messages: list[bytes]) -> None:
    """Feed a decoder; what it admits is within the limit, what it gives is what its header says."""

    def admit(header: Any) -> None:
        assert header.num_bytes <= LIMIT

    decoder = Decoder(max_payload_bytes=LIMIT, admit=admit)
    try:
        for message in messages:
            frame = decoder.feed(message)
            assert frame is None or frame.array.nbytes <= LIMIT
    except CodecError:
        return


@both(messages=st.lists(st.binary(max_size=120), max_size=4))
def test_noise_as_frames(target: Target, messages: list[bytes]) -> None:
    fed(messages)


_u8, _u64 = st.integers(0, 255), st.integers(0, 2**64 - 1)
_small = st.integers(0, 5) | st.sampled_from([2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1])


@both(
    kind=st.integers(0, 5),
    dtype=st.integers(0, 12),
    shape=st.lists(_small, max_size=5),
    ndim=st.none() | _u8,
    num_bytes=st.none() | _small | _u64,
    epoch=_u64,
    source=st.integers(-(2**31), 2**31 - 1),
    payload=st.binary(max_size=200),
    cut=st.integers(0, 250),
)
def test_headers_that_are_nearly_right(target: Target, **f: Any) -> None:
    size = {1: 4, 2: 8, 3: 2, 4: 2, 5: 8, 6: 4, 7: 2}.get(f["dtype"], 1)
    product = size
    for dim in f["shape"]:
        product *= dim
    num_bytes = product % 2**64 if f["num_bytes"] is None else f["num_bytes"]
    message = frame_bytes(
        kind=f["kind"],
        dtype=f["dtype"],
        shape=tuple(f["shape"]),
        num_bytes=num_bytes,
        ndim=f["ndim"],
        epoch=f["epoch"],
        source=f["source"],
        payload=f["payload"],
    )
    fed([message[: f["cut"]], message[f["cut"] :]])
    fed([message])


@both(data=st.binary(max_size=200))
def test_noise_as_a_failure_notice(target: Target, data: bytes) -> None:
    try:
        error = rebuild(decode_description(data))
    except CodecError:
        return
    assert isinstance(error, EdgeflowError)


_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


_names = st.text(max_size=8) | st.sampled_from(["constraint", "operator", "self", "message"])


@both(
    name=st.text(max_size=20) | st.sampled_from(["InfeasiblePlanError", "EdgeflowError", "object"]),
    fields=st.dictionaries(_names, _plain, max_size=3),
)
def test_errors_of_a_peer_are_rebuilt_as_ours(target: Target, name: str, fields: dict[str, Any]) -> None:
    assert isinstance(rebuild(ErrorDescription(name=name, message="m", fields=fields)), EdgeflowError)


@both(epoch=_u64, rank=st.integers(-(2**31), 2**31 - 1), proof=st.binary(max_size=64))
def test_hellos_of_strangers(target: Target, epoch: int, rank: int, proof: bytes) -> None:
    with pytest.raises(EdgeflowError):
        target.worker.accept(Hello(epoch, rank, proof), None)  # type: ignore[arg-type]


# Protobuf handlers.

_WORKER = [method.name for method in worker_pb2.DESCRIPTOR.services_by_name["Worker"].methods]
_REGISTRY = [method.name for method in registry_pb2.DESCRIPTOR.services_by_name["Registry"].methods]


@both(method=st.sampled_from(_WORKER + _REGISTRY), data=st.binary(max_size=200))
def test_noise_as_messages(target: Target, method: str, data: bytes) -> None:
    from google.protobuf.message import DecodeError

    module: Any = worker_pb2 if method in _WORKER else registry_pb2
    servicer: Any = target.servicer if method in _WORKER else target.registry_servicer
    try:
        request = getattr(module, f"{method}Request").FromString(data)
    except (DecodeError, UnicodeDecodeError):
        return  # gRPC refuses it before a handler is called
    called(getattr(servicer, method), iter([request]) if method == "LoadWeights" else request)
    target.forget()


_text = st.text(max_size=12) | st.sampled_from(["pi4", "pi4:7070", "unix:/x", "float32", "ab" * 32, "../x"])


@both(name=_text, address=_text, threads=st.integers(0, 2**32 - 1), version=st.text(max_size=200))
def test_members_of_any_kind(target: Target, name: str, address: str, threads: int, version: str) -> None:
    called(
        target.registry_servicer.Register,
        registry_pb2.RegisterRequest(name=name, address=address, num_threads=threads, version=version),
    )


@both(
    epoch=st.integers(0, 3) | _u64,
    rank=st.integers(-3, 3),
    peers=st.dictionaries(st.integers(-2, 3), _text, max_size=3),
    weights=st.lists(st.tuples(_text, _text, st.lists(_small, max_size=3)), max_size=3) | st.none(),
    key=st.binary(max_size=70),
    good=st.booleans(),
)
def test_preparations_that_are_nearly_right(target: Target, good: bool, weights: Any, **fields: Any) -> None:
    contents = [(c.content_hash, c.dtype, c.shape) for c in target.contents] if weights is None else weights
    if good:
        fields |= {"rank": 0, "peers": {0: "a:1", 1: "b:1"}}
    request = worker_pb2.PrepareRequest(
        epoch=fields["epoch"],
        rank=fields["rank"],
        peers=fields["peers"],
        epoch_key=fields["key"],
        program_json=encode(target.program),
        weights=[
            worker_pb2.WeightContent(content_hash=hash_, dtype=dtype, shape=shape)
            for hash_, dtype, shape in contents
        ],
    )
    called(target.servicer.Prepare, request)
    target.forget()


@both(
    chunks=st.lists(st.tuples(_text, _small, st.binary(max_size=80)), max_size=4),
    mine=st.integers(0, 3),
)
def test_weights_that_are_nearly_right(target: Target, chunks: list[Any], mine: int) -> None:
    prepare = worker_pb2.PrepareRequest(
        epoch=5,
        rank=0,
        peers={0: "a:1", 1: "b:1"},
        epoch_key=new_key(),
        program_json=encode(target.program),
        weights=[
            worker_pb2.WeightContent(content_hash=c.content_hash, dtype=c.dtype, shape=c.shape)
            for c in target.contents
        ],
    )
    # An epoch is prepared once in a worker's life, so each example has one of its own.
    prepare.epoch = target.next_epoch = getattr(target, "next_epoch", 10) + 1  # type: ignore[attr-defined]
    called(target.servicer.Prepare, prepare)
    names = [c.content_hash for c in target.contents]
    messages = [worker_pb2.LoadWeightsRequest(epoch=prepare.epoch)]
    for index, (name, offset, data) in enumerate(chunks):
        known = names[index % len(names)] if index < mine else name
        messages.append(worker_pb2.LoadWeightsRequest(content_hash=known, offset_bytes=offset, data=data))
    called(target.servicer.LoadWeights, iter(messages))
    target.forget()


# Programs: good ones with something in them replaced.

_VALUES = (
    _plain | st.integers(-3, 3) | st.integers(-(2**70), 2**70) | st.text(max_size=6)
    | st.sampled_from(["aten.add_.Tensor", "aten.from_file.default", [], {}, [[0, 1 << 62]], "float64"])
)  # fmt: skip


@both(path=st.lists(st.integers(0, 40), min_size=1, max_size=8), value=_VALUES)
def test_programs_that_are_nearly_right(target: Target, path: list[int], value: Any) -> None:
    """A program that passes can be prepared; one that does not is refused with an error of ours."""
    document = json.loads(json.dumps(target.document))
    node: Any = document
    for index, step in enumerate(path):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = keys[step % len(keys)]
        child = node[key]
        if index == len(path) - 1 or not isinstance(child, dict | list) or not child:
            node[key] = value
            break
        node = child
    try:
        program = decode_program(json.dumps(document).encode())
        check_program(program, rank=0, peers={0: "a:1", 1: "b:1"}, memory_limit_bytes=1 << 26)
    except EdgeflowError:
        return
    assert program.rank == 0
    assert peers_of(program) <= {1, CLIENT}
    assert buffer_bytes(program) <= 1 << 26


@both(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_noise_as_a_program(target: Target, data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_program(data)
