"""Claimed tasks: each runs once, on any claimant, and the answer is that of one device."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel, predict
from edgeflow.errors import ConfigError, InvalidPlanError
from edgeflow.graph.ir import Array
from edgeflow.kernels import make_executor
from edgeflow.plan import Plan, Stage, verify_plan
from edgeflow.plan.program import CLIENT, Claim, Compute, Dispense, Program, Send, encode
from edgeflow.rank.interpreter import run
from edgeflow.rank.local import weights_of
from edgeflow.rank.schedule import FrameKey
from edgeflow.simulator import Change, Every, Scenario, simulate
from edgeflow.worker.check import check_program, decode_program
from tests.unit.plan.tiny import claimed, convs, plan, stage, strips, whole

_BOTH = ("conv2d", "conv2d_1")


def slow(speeds: list[float]) -> Cluster:
    """Devices so slow that a task takes tens of milliseconds, on a network that costs next to nothing."""
    cluster = Cluster.local(speeds, bandwidth="100 Gbit/s", latency=0)
    devices = tuple(
        msgspec.structs.replace(device, flops_per_second=14_400 * speed, overhead_s=0.0)
        for device, speed in zip(cluster.devices, speeds, strict=True)
    )
    return msgspec.structs.replace(cluster, devices=devices)


@pytest.mark.parametrize("collector", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_answers_are_those_of_the_whole(count: int, collector: int) -> None:
    made = claimed(count, 1, 0, collector=collector)
    verify_plan(made)
    x = torch.randn(1, 1, 8, 4)

    alone = plan(
        made.graph, stage("all", [op.name for op in made.graph.operators], whole(made.graph, "conv2d_2", 0))
    )

    torch.testing.assert_close(ef.execute(made, (x,)), ef.execute(alone, (x,)))


def test_tasks_may_be_the_answer() -> None:
    graph = convs(3, 3)
    made = plan(graph, strips(4, 0, 1, 2))
    verify_plan(made)
    x = torch.randn(1, 1, 8, 4)
    torch.testing.assert_close(
        ef.execute(made, (x,)),
        ef.execute(plan(graph, stage("all", _BOTH, whole(graph, "conv2d_1", 0))), (x,)),
    )


def in_any_order(made: Plan, x: Array, choose: st.DataObject) -> tuple[Array, Counter[int]]:
    """Run all programs, one drawn step at a time; return the answer and rank -> number of its tasks."""
    frames: dict[int, dict[FrameKey, Array]] = {rank: {} for rank in made.programs}
    ran: Counter[int] = Counter()

    def start(rank: int, program: Program):  # type: ignore[no-untyped-def]
        def send(item: Send, array: Array) -> None:
            key = FrameKey(rank, item.tag)
            assert key not in frames[item.peer], "a frame is sent twice"
            frames[item.peer][key] = array

        def record(position: int, start_s: float, stop_s: float) -> None:
            item = program.instructions[position]
            ran[rank] += getattr(item, "stage", "") == "tasks" and type(item).__name__ == "Compute"

        runnable = make_executor("torch").prepare(program, weights_of(made.graph, program))
        inputs = {"input": x} if rank == CLIENT else {}
        return run(runnable, program, inputs, send=send, record=record)

    running = {rank: start(rank, program) for rank, program in made.programs.items()}
    waiting = {rank: next(generator) for rank, generator in running.items()}
    answer: Array | None = None
    while running:
        able = [rank for rank in running if any(key in frames[rank] for key in waiting[rank])]
        assert able, f"everybody waits: {waiting}"
        rank = choose.draw(st.sampled_from(able))
        key = next(key for key in frames[rank] if key in waiting[rank])
        try:
            waiting[rank] = running[rank].send((key, frames[rank].pop(key)))
        except StopIteration as stop:
            del running[rank]
            if rank == CLIENT:
                (answer,) = stop.value.values()
    assert answer is not None
    return answer, ran


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_in_any_order_each_task_runs_once_and_the_answer_is_the_same(data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([1, 2, 4, 8]))
    claimants = data.draw(st.permutations(range(4)).map(lambda ranks: ranks[: data.draw(st.integers(1, 4))]))
    made = claimed(count, *claimants, collector=data.draw(st.integers(0, 3)))
    x = np.random.default_rng(0).standard_normal((1, 1, 8, 4)).astype(np.float32)

    answer, ran = in_any_order(made, x, data)

    assert ran.total() == count
    assert set(ran) <= set(claimants) | set(made.programs)
    np.testing.assert_allclose(answer, ef.execute(made, (torch.from_numpy(x),)).numpy(), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8]),
    st.lists(st.floats(0.1, 1), min_size=1, max_size=4),
    st.sampled_from(["1 Mbit/s", "100 Mbit/s"]),
    st.integers(0, 3),
)
def test_the_simulator_agrees_with_the_prediction(
    count: int, speeds: list[float], bandwidth: str, collector: int
) -> None:
    cluster = msgspec.structs.replace(
        slow(speeds), network=Cluster.local([1.0], bandwidth=bandwidth, latency="1 ms").network
    )
    made = claimed(count, *range(len(speeds)), collector=collector % len(speeds), cluster=cluster)

    report = simulate(made, requests=1)
    predicted = predict(made)

    assert report.latency_s == pytest.approx(predicted.latency_s, rel=1e-12)
    assert report.transferred_bytes == predicted.transferred_bytes


def test_fast_devices_take_more() -> None:
    cluster = slow([1.0, 0.5])
    made = claimed(8, 0, 1, cluster=cluster)
    predicted = predict(made, CostModel(cluster=cluster))

    alone = predict(claimed(8, 0, cluster=cluster), CostModel(cluster=cluster))
    assert predicted.compute_s[0] > 0.6 * alone.compute_s[0]
    assert predicted.latency_s < 0.9 * alone.latency_s


def test_a_device_that_slows_down_is_left_fewer_tasks() -> None:
    """Shares that were dealt out beforehand wait for it."""
    cluster = slow([1.0, 1.0])
    tasks = claimed(8, 0, 1, cluster=cluster)
    dealt_stage = strips(8, 0, 1)
    shards = tuple(
        msgspec.structs.replace(shard, device=index // 4) for index, shard in enumerate(dealt_stage.shards)
    )
    dealt = msgspec.structs.replace(dealt_stage, shards=shards, claimants=())
    fixed = plan(tasks.graph, dealt, tasks.stages[1], cluster=cluster)
    slowed = Scenario(changes=(Change(time_s=0.0, kind="slow", device="device1", factor=0.2),))

    steady = [simulate(made, requests=3, arrivals=Every(10.0)).latency_s for made in (tasks, fixed)]
    behind = [
        simulate(made, requests=3, arrivals=Every(10.0), scenario=slowed).latency_s for made in (tasks, fixed)
    ]

    assert steady[0] == pytest.approx(steady[1], rel=0.05)
    assert behind[0] < 0.6 * behind[1]


def test_programs_say_how_long_their_tasks_are() -> None:
    made = claimed(4, 0, 1)
    claim = next(item for item in made.programs[1].instructions if isinstance(item, Claim))
    dispense = next(item for item in made.programs[CLIENT].instructions if isinstance(item, Dispense))
    assert len(claim.lengths) == len(claim.tags) == 4
    assert dispense.num_tasks == 4
    assert len(dispense.lengths) == 2 * (4 + 1)
    assert made.programs[0].has_claims
    assert made.devices == (0, 1)


def test_plans_are_saved_with_their_claimants(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = claimed(4, 0, 1)
    made.save(tmp_path / "plan.json")
    assert ef.Plan.load(tmp_path / "plan.json", made.graph).stages == made.stages


def test_plans_are_explained() -> None:
    told = claimed(4, 2, 1).explain()
    assert "4 tasks, each claimed by the first idle device of device2, device1" in told


def refused(*stages: Stage, match: str) -> None:
    with pytest.raises(InvalidPlanError, match=match):
        verify_plan(plan(convs(3, 3, 3), *stages))


def test_tasks_read_only_inputs() -> None:
    first = stage("first", ["conv2d"], whole(convs(3, 3, 3), "conv2d", 0))
    second = strips(4, 0, 1, operators=("conv2d_1",))
    last = stage("last", ["conv2d_2"], whole(convs(3, 3, 3), "conv2d_2", 0))
    refused(first, second, last, match="tasks read 'conv2d', which is no input of the graph")


def test_a_device_claims_once() -> None:
    last = stage("last", ["conv2d_2"], whole(convs(3, 3, 3), "conv2d_2", 0))
    refused(strips(4, 1, 1), last, match=r"claimed by \(1, 1\), a device twice")


def test_claimants_are_devices_of_the_cluster() -> None:
    last = stage("last", ["conv2d_2"], whole(convs(3, 3, 3), "conv2d_2", 0))
    refused(strips(4, 0, 9), last, match="rank 9 is not in a cluster of 4 devices")


def sent(program: Program, path: str, value: object) -> None:
    """A worker is sent the program with one place of its JSON changed."""
    tree = json.loads(encode(program))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place = tree
    for step in steps:
        place = place[step]
    place[last] = value
    changed = decode_program(json.dumps(tree).encode())
    check_program(changed, rank=1, peers={0: "a:1", 1: "b:1"}, memory_limit_bytes=1 << 20)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("instructions.0.lengths", [0, 10], "tasks of"),
        ("instructions.0.lengths", [-5, 20], "tasks of"),
        ("instructions.0.lengths", [1 << 40, 1], "begins with no receive"),
        ("instructions.0.lengths", [2, 4], "begins with no receive"),
        ("instructions.0.lengths", [5, 4, 1], "frames to ask for them"),
        ("instructions.0.tags", [0], "frames to ask for them"),
        ("instructions.0.tags", [0, 0], "frame 0 with rank -1 is named twice"),
        ("instructions.0.peer", 9, "rank 9 does not take part"),
    ],
)
def test_workers_refuse_claims_that_make_no_sense(path: str, value: object, says: str) -> None:
    program = claimed(2, 0, 1).programs[1]
    assert isinstance(program.instructions[0], Claim)
    check_program(program, rank=1, peers={0: "a:1", 1: "b:1"}, memory_limit_bytes=1 << 20)
    with pytest.raises(ConfigError, match=says):
        sent(program, path, value)


def test_workers_hand_out_nothing() -> None:
    program = claimed(2, 0, 1).programs[CLIENT]
    dispense = next(item for item in program.instructions if isinstance(item, Dispense))
    with pytest.raises(ConfigError, match="only the client hands out tasks"):
        check_program(
            msgspec.structs.replace(program, rank=1, inputs=(), outputs=(), instructions=(dispense,)),
            rank=1,
            peers={0: "a:1", 1: "b:1"},
            memory_limit_bytes=1 << 20,
        )


def test_what_one_task_makes_no_other_reads() -> None:
    """Nobody knows whether it runs here."""
    program = claimed(2, 0, 1).programs[1]
    computes = [index for index, item in enumerate(program.instructions) if isinstance(item, Compute)]
    first, second = (program.instructions[index] for index in computes)
    assert isinstance(first, Compute)
    assert isinstance(second, Compute)
    with pytest.raises(ConfigError, match="holds nothing at that point"):
        sent(program, f"instructions.{computes[1]}.inputs.0.1", first.inputs[0][1])
