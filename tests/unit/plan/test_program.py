"""Programs as data: sizes of frames, frames that ask for tasks, and the wire."""

from __future__ import annotations

import msgspec

from edgeflow.plan.program import (
    CLIENT,
    Claim,
    Dispense,
    Program,
    Receive,
    encode,
    shared_stages,
    token_receive,
    token_send,
)
from edgeflow.sharding.region import Region
from tests.unit.plan.tiny import convs, cut, plan, stage, whole


def receive(encoding: str = "") -> Receive:
    region = Region.full((2, 300))
    return Receive(
        buffer=0, tensor="x", region=region, dtype="float32", peer=2, tag=5, stage="s", others=(0, 1),
        encoding=encoding,
    )  # fmt: skip


def test_frames_know_their_bytes_and_their_senders() -> None:
    assert receive().num_bytes == 2400
    assert receive("float16").num_bytes == 1200
    assert receive("int8").num_bytes == 600 + 5 * 4  # five blocks of at most 128 values, a scale each
    assert receive().peers == (2, 0, 1)


def test_questions_for_tasks_are_frames_too() -> None:
    claim = Claim(stage="s", peer=CLIENT, tags=(7, 8), lengths=(1, 1))
    dispense = Dispense(stage="s", claimants=(0, 1), tags=((1, 2), (3, 4)), lengths=(1,) * 6)
    program = Program(rank=0, instructions=(claim, receive(), dispense), buffers=())

    assert program.sends == (token_send(CLIENT, 7, "s"), token_send(CLIENT, 8, "s"))
    asked = [token_receive(rank, tag, "s") for rank, tag in ((0, 1), (0, 2), (1, 3), (1, 4))]
    assert program.receives == (receive(), *asked)
    assert dispense.num_tasks == 2
    assert {item.num_bytes for item in program.sends} == {1}


def test_programs_survive_the_wire_and_share_stages() -> None:
    graph = convs(3, 3)
    made = plan(
        graph,
        stage("both", ["conv2d"], cut(graph, "conv2d", 2, {0: (0, 4), 1: (4, 8)})),
        stage("one", ["conv2d_1"], whole(graph, "conv2d_1", 1)),
    )

    for program in made.programs.values():
        assert msgspec.json.decode(encode(program), type=Program) == program
    assert shared_stages(made.programs) == {"both"}
