"""The predicted timeline on networks of every kind, what is busy, and what it spends, by hand.

Three devices; every link carries 1 MB/s and adds 10 ms; a frame of 1,000 floats takes 4 ms on it. Frames cost
1 ms of processor time on the side of a device. Requests come from device 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edgeflow.cluster import Cluster, Device, Link, Segment
from edgeflow.cluster.profile import DeviceProfile, MessageCost
from edgeflow.cost import CostModel, Prediction, predict_programs
from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.program import CLIENT, Buffer, Compute, Instruction, Kernel, Program, Receive, Send
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Interval, Region

MS = 1e-3
FRAME = Region.full((10, 100))
WIRE = Link(bandwidth_bytes_per_s=1e6, latency_s=10 * MS)


def cluster(*segments: Segment, links: Any = (), **fields: Any) -> Cluster:
    """``fields`` are those of device 1."""
    devices = tuple(
        Device(
            name=f"d{rank}",
            flops_per_second=1e9,
            memory_bytes=1 << 30,
            overhead_s=0.0,
            **(fields if rank == 1 else {}),
        )
        for rank in range(3)
    )
    return Cluster(devices=devices, network=WIRE, links=links, segments=segments)


def predicted(on: Cluster, instructions: Mapping[int, Sequence[Instruction]]) -> Prediction:
    buffers = (Buffer("x", FRAME, "float32"),)
    programs = {
        rank: Program(rank=rank, instructions=tuple(items), buffers=buffers)
        for rank, items in instructions.items()
    }
    return predict_programs(programs, CostModel(cluster=on, message_overhead_s=1 * MS))


def send(peer: int, tag: int, region: Region = FRAME) -> Send:
    return Send(buffer=0, tensor="x", region=region, dtype="float32", peer=peer, tag=tag, stage="s")


def receive(peer: int, tag: int, region: Region = FRAME) -> Receive:
    return Receive(buffer=0, tensor="x", region=region, dtype="float32", peer=peer, tag=tag, stage="s")


def compute(seconds: float) -> Compute:
    step = Step("aten.relu.default", ())
    kernel = Kernel(operator="op", steps=(step,), outputs=(), flops=int(seconds * 1e9), num_bytes=0)
    return Compute(stage="s", kernels=(kernel,), inputs=(), outputs=())


#: Device 0 sends to 1 while 2 sends to the client, which is where device 0 is: no interface is shared.
CROSSING = {
    CLIENT: [receive(2, 1)],
    0: [send(1, 0)],
    1: [receive(0, 0)],
    2: [send(CLIENT, 1)],
}


def medium(*members: str, **more: Any) -> Segment:
    return Segment(name="air", kind="medium", members=members, bandwidth_bytes_per_s=1e6, **more)


def test_on_a_switch_transfers_of_different_interfaces_do_not_wait() -> None:
    made = predicted(cluster(), CROSSING)

    assert made.latency_s == pytest.approx((1 + 10 + 4) * MS)
    assert made.busy_s["egress:d0"] == pytest.approx(4 * MS)
    assert made.busy_s["ingress:d0"] == pytest.approx(4 * MS)


def test_on_a_medium_all_transfers_take_turns() -> None:
    made = predicted(cluster(medium("d0", "d1", "d2")), CROSSING)

    # Both frames are ready at 1; the first has the air until 5, the second until 9.
    assert made.latency_s == pytest.approx((1 + 4 + 4 + 10) * MS)
    assert made.busy_s["medium:air"] == pytest.approx(8 * MS)


def test_the_air_is_used_twice_between_members_of_an_access_point() -> None:
    made = predicted(cluster(medium("d0", "d1", "d2", is_relayed=True)), CROSSING)

    assert made.busy_s["medium:air"] == pytest.approx(16 * MS)
    assert made.latency_s == pytest.approx((1 + 16 + 10) * MS)


def test_machines_of_one_host_take_turns_at_its_uplink() -> None:
    host = Segment(name="host", kind="uplink", members=("d1", "d2"), bandwidth_bytes_per_s=1e6)
    both_leave = {
        CLIENT: [receive(1, 0), receive(2, 1)],
        1: [send(CLIENT, 0)],
        2: [send(CLIENT, 1)],
    }

    made = predicted(cluster(host, links=(("d1", "d0", fast()), ("d2", "d0", fast()))), both_leave)

    # Each interface passes a frame in 1; the uplink takes 4 for one and 4 for the other.
    assert made.busy_s["uplink:host:out"] == pytest.approx(8 * MS)
    assert made.latency_s == pytest.approx((1 + 8 + 10) * MS)


def fast() -> Link:
    return Link(bandwidth_bytes_per_s=4e6, latency_s=10 * MS)


def test_a_slow_receiver_takes_in_at_its_own_rate() -> None:
    made = predicted(
        cluster(download_bytes_per_s=0.5e6),
        {CLIENT: [send(1, 0), receive(1, 1)], 1: [receive(CLIENT, 0), send(CLIENT, 1)]},
    )

    # There 10 + 8, 1 to receive, 1 to send, back 10 + 4.
    assert made.latency_s == pytest.approx((18 + 1 + 1 + 14) * MS)
    assert made.busy_s["ingress:d1"] == pytest.approx(8 * MS)
    assert made.busy_s["egress:d0"] == pytest.approx(4 * MS)  # the client sends from device 0's host


def test_a_last_byte_cannot_overtake_the_slow_interface_that_it_comes_from() -> None:
    made = predicted(
        cluster(upload_bytes_per_s=0.25e6),
        {CLIENT: [receive(1, 1)], 1: [send(CLIENT, 1)]},
    )

    assert made.busy_s["ingress:d0"] == pytest.approx(4 * MS)
    assert made.latency_s == pytest.approx((1 + 16 + 10) * MS)


def test_a_transfer_over_a_missing_link_names_the_pair() -> None:
    with pytest.raises(InfeasiblePlanError, match="no link from device 'd0' to 'd1'"):
        predicted(cluster(links=(("d0", "d1", None),)), CROSSING)


def test_the_period_is_that_of_the_busiest_resource() -> None:
    made = predicted(
        cluster(),
        {
            CLIENT: [send(1, 0), receive(1, 1)],
            1: [receive(CLIENT, 0), compute(7 * MS), send(CLIENT, 1)],
        },
    )

    assert made.busy_s["processor:d1"] == pytest.approx(9 * MS)
    assert made.bottleneck == "processor:d1"
    assert made.period_s == pytest.approx(9 * MS)
    assert made.period_s < made.latency_s


def test_energy_by_hand() -> None:
    made = predicted(
        cluster(
            power_idle_w=2.0,
            power_compute_w=10.0,
            joules_per_flop=1e-9,
            joules_per_byte_sent=1e-6,
            joules_per_byte_received=2e-6,
        ),
        {
            CLIENT: [send(1, 0), receive(1, 1)],
            1: [receive(CLIENT, 0), compute(7 * MS), send(CLIENT, 1)],
        },
    )

    spent = made.energy[1]
    assert spent.idle_j == pytest.approx(2.0 * made.latency_s)
    assert spent.compute_j == pytest.approx(10.0 * 9 * MS + 7e6 * 1e-9)
    assert spent.network_j == pytest.approx(4000 * 1e-6 + 4000 * 2e-6)
    assert set(made.energy) == {0, 1, 2}  # those that rest too
    assert made.energy_j == pytest.approx(spent.total_j)
    assert made.active_energy_j == pytest.approx(spent.compute_j + spent.network_j)


def test_frames_cost_what_the_devices_profile_says() -> None:
    profile = DeviceProfile(
        name="d1",
        flops_per_second=1e9,
        memory_bandwidth_bytes_per_s=1e9,
        memory_bytes=1,
        families=(),
        message=MessageCost(
            send_s=2 * MS,
            receive_s=5 * MS,
            send_s_per_byte=1e-6,
            receive_s_per_byte=2e-6,
            pack_s_per_byte=10e-6,
        ),
    )
    columns = FRAME.replace(1, Interval(0, 50))
    made = predicted(
        cluster(profile=profile),
        {CLIENT: [send(1, 0), receive(1, 1, columns)], 1: [receive(CLIENT, 0), send(CLIENT, 1, columns)]},
    )

    # Received: 5 + 4,000 bytes at 2 us. Sent: 2 + 2,000 bytes at 1 us and at 10 us, as columns are packed.
    assert made.busy_s["processor:d1"] == pytest.approx((5 + 8 + 2 + 2 + 20) * MS)
    assert made.latency_s == pytest.approx((14 + 13 + 24 + 12) * MS)
