"""The predicted timeline by hand: programs of a few frames on two or three devices.

Every link carries 1 MB/s and adds 10 ms; a frame of 1,000 floats takes 4 ms on it. Frames cost 1 ms of
processor time on the side of a device. Requests come from device 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from edgeflow.cluster.cluster import HOST_LINK, Cluster, Device, Link
from edgeflow.cost import CostModel, Prediction, predict_programs
from edgeflow.errors import ConfigError, InvalidPlanError
from edgeflow.plan.program import CLIENT, Buffer, Compute, Instruction, Kernel, Program, Receive, Send
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Region

MS = 1e-3
FRAME = Region.full((1000,))
SMALL = Region.full((250,))


def cluster(**links: Link) -> Cluster:
    devices = tuple(
        Device(name=f"d{rank}", flops_per_second=1e9, memory_bytes=1 << 30, overhead_s=0.0)
        for rank in range(3)
    )
    pairs = tuple((*name.split("_"), link) for name, link in links.items())
    network = Link(bandwidth_bytes_per_s=1e6, latency_s=10 * MS)
    return Cluster(devices=devices, network=network, links=pairs)  # type: ignore[arg-type]


def predicted(
    instructions: Mapping[int, Sequence[Instruction]],
    *,
    on: Cluster | None = None,
    with_events: bool = False,
    contention: float = 1.0,
) -> Prediction:
    buffers = (Buffer("x", FRAME, "float32"),) * 9
    programs = {
        rank: Program(rank=rank, instructions=tuple(items), buffers=buffers)
        for rank, items in instructions.items()
    }
    cost = CostModel(cluster=on or cluster(), message_overhead_s=1 * MS, contention=contention)
    return predict_programs(programs, cost, with_events=with_events)


def send(peer: int, tag: int, region: Region = FRAME) -> Send:
    return Send(buffer=0, tensor="x", region=region, dtype="float32", peer=peer, tag=tag, stage="s")


def receive(peer: int, tag: int, region: Region = FRAME) -> Receive:
    return Receive(buffer=0, tensor="x", region=region, dtype="float32", peer=peer, tag=tag, stage="s")


def compute(seconds: float, stage: str = "s") -> Compute:
    step = Step("aten.relu.default", ())
    kernel = Kernel(operator="op", steps=(step,), outputs=(), flops=int(seconds * 1e9), num_bytes=0)
    return Compute(stage=stage, kernels=(kernel,), inputs=(), outputs=())


def test_there_and_back_over_one_link() -> None:
    made = predicted({
        CLIENT: [send(1, 0), receive(1, 1)],
        1: [receive(CLIENT, 0), compute(7 * MS), send(CLIENT, 1)],
    })  # fmt: skip

    # 10 + 4 on the wire, 1 to receive, 7 to compute, 1 to send, 10 + 4 back.
    assert made.latency_s == pytest.approx(37 * MS)
    assert made.transferred_bytes == 8000
    assert made.num_messages == 2
    assert made.compute_s == {1: pytest.approx(7 * MS)}


def test_the_device_on_the_sources_host_is_not_reached_over_the_network() -> None:
    made = predicted({
        CLIENT: [send(0, 0), receive(0, 1)],
        0: [receive(CLIENT, 0), send(CLIENT, 1)],
    })  # fmt: skip

    assert made.latency_s == pytest.approx(2 * HOST_LINK.seconds(4000) + 2 * MS)
    assert (made.transferred_bytes, made.num_messages) == (0, 0)


def test_one_interface_sends_one_frame_after_another() -> None:
    made = predicted({
        CLIENT: [receive(1, 0), receive(2, 1)],
        0: [send(1, 2), send(2, 3)],
        1: [receive(0, 2), send(CLIENT, 0, SMALL)],
        2: [receive(0, 3), send(CLIENT, 1, SMALL)],
    })  # fmt: skip

    # Device 0 has the first frame ready at 1 and the second at 2; the second waits for the first until 5, is
    # there at 5 + 10 + 4 = 19; 1 to receive, 1 to send, 10 + 1 for the small frame to the client.
    assert made.latency_s == pytest.approx(32 * MS)


def test_one_interface_takes_in_one_frame_after_another() -> None:
    made = predicted({
        CLIENT: [receive(0, 2)],
        0: [receive(1, 0), receive(2, 1), send(CLIENT, 2)],
        1: [send(0, 0)],
        2: [send(0, 1)],
    })  # fmt: skip

    # Both frames reach device 0 at 11; one is in at 15, the other at 19, 1 to receive, then 1 to send.
    assert made.latency_s == pytest.approx(21 * MS + HOST_LINK.seconds(4000))


def test_both_directions_of_an_interface_are_free_of_each_other() -> None:
    made = predicted({
        CLIENT: [receive(0, 2)],
        0: [send(1, 0), receive(1, 1), send(CLIENT, 2)],
        1: [send(0, 1), receive(0, 0)],
    })  # fmt: skip

    # 1 to send, 10 + 4, 1 to receive, on both sides at once; 1 to send to the client.
    assert made.latency_s == pytest.approx(17 * MS + HOST_LINK.seconds(4000))


def test_a_pair_may_have_a_link_of_its_own_in_one_direction() -> None:
    fast = Link(bandwidth_bytes_per_s=4e6, latency_s=0.0)
    made = predicted(
        {CLIENT: [send(1, 0), receive(1, 1)], 1: [receive(CLIENT, 0), send(CLIENT, 1)]},
        on=cluster(d0_d1=fast),
    )

    # There 1 instead of 14; back as ever.
    assert made.latency_s == pytest.approx((1 + 1 + 1 + 14) * MS)


def test_a_frame_that_is_early_costs_no_waiting() -> None:
    made = predicted({
        CLIENT: [send(1, 0), receive(1, 1)],
        1: [compute(50 * MS), receive(CLIENT, 0), send(CLIENT, 1)],
    })  # fmt: skip

    assert made.latency_s == pytest.approx((50 + 1 + 1 + 14) * MS)


def test_events_cover_compute_and_transfers_in_order() -> None:
    made = predicted(
        {CLIENT: [send(1, 0), receive(1, 1)], 1: [receive(CLIENT, 0), compute(7 * MS), send(CLIENT, 1)]},
        with_events=True,
    )

    mine = [event for event in made.events if event.rank == 1]
    assert [event.kind for event in mine] == ["receive", "compute", "send"]
    assert [event.start_s for event in mine] == pytest.approx([0.0, 15 * MS, 22 * MS])  # waiting included
    assert [event.stop_s for event in mine] == pytest.approx([15 * MS, 22 * MS, 23 * MS])


def test_programs_that_wait_for_each_other_are_an_error() -> None:
    with pytest.raises(InvalidPlanError, match=r"ranks \[-1, 1\] wait for frames that are never sent"):
        predicted({CLIENT: [receive(1, 1), send(1, 0)], 1: [receive(CLIENT, 0), send(CLIENT, 1)]})


def test_kernels_take_longer_in_stages_that_others_compute_too() -> None:
    programs = {
        CLIENT: [send(1, 0), receive(1, 1)],
        1: [receive(CLIENT, 0), compute(7 * MS), compute(3 * MS, "alone"), send(CLIENT, 1)],
        2: [compute(2 * MS)],
    }

    made = predicted(programs, contention=1.5)

    assert made.compute_s == {1: pytest.approx((1.5 * 7 + 3) * MS), 2: pytest.approx(3 * MS)}
    assert made.latency_s == pytest.approx(predicted(programs).latency_s + 3.5 * MS)


def test_when_requests_are_many_all_kernels_take_longer() -> None:
    programs = {
        CLIENT: [send(1, 0), receive(1, 1)],
        1: [receive(CLIENT, 0), compute(7 * MS), compute(3 * MS, "alone"), send(CLIENT, 1)],
        2: [compute(2 * MS)],
    }
    only = {rank: program for rank, program in programs.items() if rank != 2}

    idle, many = predicted(programs), predicted(programs, contention=1.5)

    name = many.bottleneck
    assert many.busy_s[name] == pytest.approx(idle.busy_s[name] + 5 * MS)
    # One device alone is in nobody's way, but where others answer other requests.
    assert predicted(only, contention=1.5).busy_s[name] == pytest.approx(idle.busy_s[name])


@pytest.mark.parametrize("contention", [0.9, 0.0, float("inf"), float("nan")])
def test_contention_is_at_least_one(contention: float) -> None:
    with pytest.raises(ConfigError, match=f"at least 1 and finite, got {contention:g}"):
        CostModel(cluster=cluster(), contention=contention)
