"""From sections to a program: the order of instructions, where buffers are freed, and the peak."""

from __future__ import annotations

from edgeflow.plan.machine import Machine, finish
from edgeflow.plan.program import Assemble, Compute, Free, Part, Receive, Send
from edgeflow.sharding.region import Region

_REGION = Region.full((4,))  # 16 bytes as float32


def receive(buffer: int) -> Receive:
    return Receive(buffer=buffer, tensor="x", region=_REGION, dtype="float32", peer=0, tag=buffer, stage="s")


def send(buffer: int) -> Send:
    return Send(buffer=buffer, tensor="x", region=_REGION, dtype="float32", peer=0, tag=buffer, stage="s")


def compute(source: int, target: int) -> Compute:
    return Compute(stage="s", kernels=(), inputs=(("x", source),), outputs=(("y", target),))


def with_buffers(count: int) -> Machine:
    machine = Machine(1)
    assert [machine.new_buffer("x", _REGION, "float32") for _ in range(count)] == list(range(count))
    return machine


def test_sections_follow_their_slots_and_sends_stand_behind() -> None:
    machine = with_buffers(2)
    machine.sections[1, 0].before.append(receive(1))
    machine.sections[1, 0].sends.append(send(1))
    machine.sections[0, 0].sends.append(send(0))
    machine.sections[0, 0].before.append(receive(0))

    program = finish(machine, inputs=(), outputs=())

    assert program.instructions == (
        receive(0), send(0), Free((0,)), receive(1), send(1), Free((1,))
    )  # fmt: skip
    assert program.peak_bytes == 16
    assert not program.has_claims


def test_the_peak_counts_what_kernels_hold_inside() -> None:
    machine = with_buffers(2)
    machine.sections[0, 0].before += [receive(0), compute(0, 1)]
    machine.sections[0, 0].sends.append(send(1))
    machine.inner_bytes[0, 0] = 100

    program = finish(machine, inputs=(), outputs=())

    assert program.peak_bytes == 16 + 100
    assert program.instructions == (receive(0), compute(0, 1), Free((0,)), send(1), Free((1,)))


def test_inputs_are_there_at_once_and_outputs_stay() -> None:
    machine = with_buffers(3)
    part = Part(0, _REGION)
    copy = Assemble(
        buffer=2, tensor="x", region=_REGION, dtype="float32", parts=(part,), is_sum=False, stage="s"
    )
    machine.sections[0, 0].before.append(copy)

    program = finish(machine, inputs=(("x", 0), ("unread", 1)), outputs=(("x", 2),))

    assert program.instructions == (Free((1,)), copy, Free((0,)))
    assert program.peak_bytes == 32
