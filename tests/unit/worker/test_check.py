"""Programs from the network: what is not sane is refused, with a sentence that says where."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgeflow.errors import (
    CodecError,
    ConfigError,
    EdgeflowError,
    UnsupportedOperatorError,
    WorkerOverloadedError,
)
from edgeflow.plan.program import CLIENT, Program, encode
from edgeflow.rank.interpreter import receives_of
from edgeflow.rank.schedule import FrameKey
from edgeflow.worker.check import (
    buffer_bytes,
    check_program,
    decode_program,
    peers_of,
    weight_bytes,
)

PEERS = {0: "a:1", 1: "b:1"}


def check(program: Program, *, rank: int = 0, memory_limit_bytes: int = 10_000) -> None:
    check_program(program, rank=rank, peers=PEERS, memory_limit_bytes=memory_limit_bytes)


def changed(program: Program, path: str, value: Any) -> Program:
    """The program with one place of its JSON changed; numbers in ``path`` are positions."""
    tree = json.loads(encode(program))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = tree
    for step in steps:
        place = place[step]
    place[last] = value
    return decode_program(json.dumps(tree).encode())


def test_a_sane_program_passes_and_comes_back(program: Program) -> None:
    assert decode_program(encode(program)) == program
    check(program)


def test_encodings_are_known_and_for_floats_of_32_bits(program: Program) -> None:
    tree = json.loads(encode(program))
    sends = [index for index, item in enumerate(tree["instructions"]) if item["type"] == "send"]

    with pytest.raises(ConfigError, match="no encoding 'zip' of activations"):
        check(changed(program, f"instructions.{sends[0]}.encoding", "zip"))
    check(changed(program, f"instructions.{sends[0]}.encoding", "int8"))
    half = changed(program, f"instructions.{sends[0]}.dtype", "float16")
    with pytest.raises(ConfigError, match="float16 cannot be sent as int8"):
        check(changed(half, f"instructions.{sends[0]}.encoding", "int8"))


def test_what_a_program_needs(program: Program) -> None:
    assert weight_bytes(program) == 48
    assert buffer_bytes(program) == 80  # what the program says, above the 72 of its buffers
    assert set(receives_of(program)) == {FrameKey(CLIENT, 0), FrameKey(1, 2)}
    assert peers_of(program) == {CLIENT, 1}


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"rank": "0"}', b"[" * 100_000])
def test_bytes_that_are_no_program(data: bytes) -> None:
    with pytest.raises(CodecError, match="program"):
        decode_program(data)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("rank", 1, "for rank 1, this worker is to be rank 0"),
        ("inputs", [["x", 0]], "only the client's"),
        ("buffers.0.dtype", "complex64", "unknown dtype"),
        ("buffers.0.region", [[[0, 2], [-1, 4]]], "intervals"),
        ("buffers.0.region", [[[2, 0], [0, 4]]], "intervals"),
        ("buffers.0.region", [[[0, 1]] * 17], "17 dims"),
        ("buffers.0.region", [[[0, 2], [0, 5]]], "does not fit its buffer"),
        ("instructions.0.buffer", 4, "buffer 4, but there are 4"),
        ("instructions.0.buffer", -1, "buffer -1"),
        ("instructions.0.peer", 7, "rank 7 does not take part"),
        ("instructions.0.peer", 0, "rank 0 does not take part"),
        ("instructions.0.tag", -1, "frame -1"),
        ("instructions.0.region", [[[0, 2], [0, 3]]], "does not fit its buffer"),
        ("instructions.3.buffer", 2, "buffer 2 holds nothing"),
        ("instructions.3.region", [[[0, 2], [0, 4]]], "not within its buffer"),
        ("instructions.3.dtype", "float64", "does not fit its buffer"),
        ("instructions.4.buffer", 1, "written twice"),
        ("instructions.5.parts.0.buffer", 9, "buffer 9, but there are 4"),
        ("instructions.5.parts.0.region", [[[0, 2], [0, 4]]], "not within its buffer"),
        ("instructions.5.region", [[[0, 2], [0, 2]]], "does not fit its buffer"),
        ("instructions.2.buffers", [1, 1], "holds nothing"),
        ("instructions.1.inputs", [["x", 3]], "holds nothing"),
        ("instructions.1.inputs", [], "is not there to be read"),
        ("instructions.1.outputs", [["z", 1]], "no kernel makes"),
        ("instructions.1.kernels.0.steps", [], "no steps"),
        ("instructions.1.kernels.0.outputs", [["y", [[[0, 1], [0, 3]]]]], "no kernel makes"),
        ("weights", [], "is not there to be read"),
    ],
)
def test_insane_programs_are_refused(program: Program, path: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check(changed(program, path, value))


@pytest.mark.parametrize(
    ("argument", "value", "says"),
    [
        ("0", ["self", {"type": "result", "step": 1}], "reads the result of step 1"),
        ("0", ["self", {"type": "result", "step": -1}], "reads the result of step -1"),
        ("1", ["other", {"type": "literal", "shape": [1000000], "values": [1.0]}], "of 1 values"),
        ("1", ["other", {"type": "literal", "shape": [-1, -1], "values": [1.0]}], "of 1 values"),
    ],
)
def test_insane_arguments_are_refused(program: Program, argument: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check(changed(program, f"instructions.1.kernels.0.steps.1.arguments.{argument}", value))


def test_an_operator_that_is_not_allowed_is_named(program: Program) -> None:
    bad = changed(program, "instructions.1.kernels.0.steps.0.target", "aten.from_file.default")
    with pytest.raises(UnsupportedOperatorError, match=r"operator 'fc'.*aten\.from_file\.default"):
        check(bad)


def test_what_cannot_fit_is_refused_before_anything_is_allocated(program: Program) -> None:
    huge = changed(program, "buffers.0.region", [[[0, 2**31], [0, 2**31]]])
    with pytest.raises(WorkerOverloadedError, match=r"a buffer of 18,446,744,073,709,551,616 bytes"):
        check(huge)
    with pytest.raises(WorkerOverloadedError, match="weights of 48 bytes"):
        check(program, memory_limit_bytes=47)
    with pytest.raises(WorkerOverloadedError, match="buffers take 80 bytes at once"):
        check(program, memory_limit_bytes=79)


def test_a_weight_named_twice(program: Program) -> None:
    weight = json.loads(encode(program))["weights"][0]
    with pytest.raises(ConfigError, match="named twice"):
        check(changed(program, "weights", [weight, weight]))


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a JSON tree."""
    places, left = [], [tree]
    while left:
        item = left.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        places += [(item, key) for key in keys]
        left += [item[key] for key in keys if isinstance(item[key], dict | list)]
    return places


def _value(rng: np.random.Generator) -> Any:
    """Return what may stand in a damaged program: of the wrong type, too large, negative, or plausible."""
    match rng.integers(6):
        case 0:
            return None
        case 1:
            return int(rng.integers(-3, 6))
        case 2:
            return [2**31, 2**63, -(2**63), 1e300][rng.integers(4)]
        case 3:
            return "".join(map(chr, rng.integers(1, 0xD800, size=rng.integers(6))))
        case 4:
            return rng.integers(-1, 4, size=rng.integers(4)).tolist()
    return {}


def test_any_damage_is_one_of_our_errors_or_harmless(program: Program, rng: np.random.Generator) -> None:
    encoded = encode(program)
    for _ in range(1500):
        tree = json.loads(encoded)
        for _ in range(int(rng.integers(1, 4))):
            places = _places(tree)
            container, key = places[rng.integers(len(places))]
            container[key] = _value(rng)
        damaged = json.dumps(tree).encode()
        try:
            check(decode_program(damaged))
        except EdgeflowError as error:
            assert len(str(error)) < 1000
        except Exception as error:
            raise AssertionError(f"a foreign error of {damaged!r}") from error
