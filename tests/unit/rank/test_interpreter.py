"""One program for one request, driven by hand: the test plays the network and the back end."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import pytest

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.plan.program import (
    Assemble,
    Buffer,
    Compute,
    Free,
    Instruction,
    Part,
    Program,
    Receive,
    Send,
)
from edgeflow.rank.interpreter import Running, _Brake, assemble, run
from edgeflow.rank.schedule import FrameKey
from edgeflow.sharding.region import Region
from edgeflow.testing.virtual import VirtualThreads

FOUR = Region.full((4,))


def box(start: int, stop: int) -> Region:
    return Region.of([(start, stop)])


class Doubling:
    """A back end that knows one kernel: buffer 1 becomes twice buffer 0."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        time.sleep(self._seconds)
        buffers[1] = 2 * buffers[0]


def program(*instructions: Instruction, outputs: tuple[tuple[str, int], ...] = ()) -> Program:
    buffers = (Buffer("x", FOUR, "float32"), Buffer("y", FOUR, "float32"), Buffer("y", FOUR, "float32"))
    return Program(rank=0, instructions=instructions, buffers=buffers, inputs=(("x", 0),), outputs=outputs)


COMPUTE = Compute(stage="s", kernels=(), inputs=(("x", 0),), outputs=(("y", 1),))
RECEIVE = Receive(buffer=0, tensor="x", region=FOUR, dtype="float32", peer=1, tag=7, stage="s")
SEND = Send(buffer=1, tensor="y", region=box(1, 3), dtype="float32", peer=1, tag=8, stage="s")


def finished(generator: Running) -> Mapping[str, Array]:
    """Run a program that receives nothing to its end."""
    with pytest.raises(StopIteration) as caught:
        next(generator)
    outputs: Mapping[str, Array] = caught.value.value
    return outputs


def ignore(instruction: Send, array: Array) -> None:
    """A network that loses everything."""


def test_inputs_are_there_before_the_first_instruction_and_outputs_after_the_last() -> None:
    x = np.arange(4, dtype=np.float32)

    outputs = finished(run(Doubling(), program(COMPUTE, outputs=(("y", 1),)), {"x": x}, send=ignore))

    assert set(outputs) == {"y"}
    np.testing.assert_array_equal(outputs["y"], 2 * x)


def test_it_stops_at_each_receive_until_it_is_given_the_frame() -> None:
    x = np.zeros(4, np.float32)
    running = run(Doubling(), program(RECEIVE, COMPUTE, outputs=(("y", 1),)), {"x": x}, send=ignore)

    assert next(running) == (FrameKey(peer=1, tag=7),)
    with pytest.raises(StopIteration) as caught:
        running.send((FrameKey(peer=1, tag=7), np.ones(4, np.float32)))
    np.testing.assert_array_equal(caught.value.value["y"], [2, 2, 2, 2])


def test_it_sends_exactly_the_region_as_one_block() -> None:
    sent: list[tuple[Send, Array]] = []
    x = np.arange(4, dtype=np.float32)

    finished(
        run(Doubling(), program(COMPUTE, SEND), {"x": x}, send=lambda item, array: sent.append((item, array)))
    )

    ((instruction, array),) = sent
    assert instruction is SEND
    np.testing.assert_array_equal(array, [2, 4])
    assert array.flags.c_contiguous


def test_what_was_freed_is_gone() -> None:
    running = run(Doubling(), program(COMPUTE, Free((1,)), SEND), {"x": np.ones(4)}, send=ignore)

    with pytest.raises(KeyError):
        next(running)


def test_times_are_recorded_for_all_but_frees() -> None:
    seen: list[tuple[int, float, float]] = []

    finished(
        run(
            Doubling(),
            program(COMPUTE, Free((0,)), SEND),
            {"x": np.ones(4, np.float32)},
            send=ignore,
            record=lambda *item: seen.append(item),
        )
    )

    assert [index for index, _, _ in seen] == [0, 2]
    assert all(start <= stop for _, start, stop in seen)
    assert seen[0][2] <= seen[1][1]


def test_a_slower_device_is_emulated() -> None:
    seen: list[float] = []

    finished(
        run(
            Doubling(0.02),
            program(COMPUTE),
            {"x": np.ones(4, np.float32)},
            send=ignore,
            record=lambda index, start, stop: seen.append(stop - start),
            speed=0.5,
        )
    )

    assert seen[0] >= 0.039


class Oversleeping(VirtualThreads):
    """Sleeps take a millisecond longer than asked for."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds + 0.001)


def test_a_sleep_that_took_too_long_shortens_the_next_one() -> None:
    clock = Oversleeping()
    brake = _Brake(0.5, clock)
    for _ in range(20):
        VirtualThreads.sleep(clock, 0.0004)  # shorter than a sleep is too long
        brake.hold(0.0004)

    assert 20 * 0.0008 - 1e-9 <= clock.now() <= 20 * 0.0008 + 0.001 + 1e-9


def _assembled(
    arrays: list[Array], regions: list[Region], *, is_sum: bool, dtype: str = "float32", target: Region = FOUR
) -> Array:
    """Assemble ``target`` out of whole buffers."""
    buffers = tuple(Buffer("x", region, dtype) for region in regions)
    instruction = Assemble(
        buffer=len(arrays),
        tensor="x",
        region=target,
        dtype=dtype,
        parts=tuple(Part(index, region.intersect(target)) for index, region in enumerate(regions)),
        is_sum=is_sum,
        stage="s",
    )
    owner = Program(rank=0, instructions=(), buffers=buffers)
    return assemble(instruction, owner, dict(enumerate(arrays)))


def test_parts_are_put_side_by_side() -> None:
    made = _assembled(
        [np.array([7, 8], np.float32), np.array([5, 6, 7], np.float32)], [box(2, 4), box(0, 3)], is_sum=False
    )

    np.testing.assert_array_equal(made, [5, 6, 7, 8])


def test_only_what_lies_in_the_region_is_taken() -> None:
    arrays = [np.arange(4, dtype=np.float32), np.arange(10, 13, dtype=np.float32)]

    made = _assembled(arrays, [box(0, 4), box(4, 7)], is_sum=False, target=box(3, 6))

    np.testing.assert_array_equal(made, [3, 10, 11])


def test_parts_are_added_and_left_as_they_were() -> None:
    first, second = np.ones(4, np.float32), np.arange(4, dtype=np.float32)

    made = _assembled([first, second], [FOUR, FOUR], is_sum=True)

    np.testing.assert_array_equal(made, [1, 2, 3, 4])
    np.testing.assert_array_equal(first, [1, 1, 1, 1])


def test_a_sum_of_one_part_is_a_copy() -> None:
    only = np.ones(4, np.float32)

    made = _assembled([only], [FOUR], is_sum=True)

    assert not np.shares_memory(made, only)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_added_wide_and_rounded_once(dtype: str) -> None:
    """Added narrow, each of many small numbers would be lost against the large one."""
    narrow = NUMPY_DTYPES[dtype]
    arrays: list[Array] = [np.full(4, 256, narrow)] + [np.full(4, 0.0625, narrow)] * 64

    made = _assembled(arrays, [FOUR] * len(arrays), is_sum=True, dtype=dtype)

    assert made.dtype == narrow
    np.testing.assert_array_equal(made.astype(np.float32), np.full(4, 260, np.float32))


def test_scalars_are_assembled_too() -> None:
    scalar = Region(())
    made = _assembled(
        [np.array(1.5, np.float32), np.array(2.0, np.float32)], [scalar, scalar], is_sum=True, target=scalar
    )

    assert made.shape == ()
    assert made == 3.5
