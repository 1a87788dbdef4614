"""Costs by hand: a roofline, measurements that replace it, copies and frames."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel, Measurement
from edgeflow.cost.model import MESSAGE_OVERHEAD_S
from edgeflow.errors import ConfigError
from edgeflow.plan.program import CLIENT, Assemble, Kernel, Part
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Region


def device(name: str, flops_per_second: float) -> Device:
    return Device(
        name=name,
        flops_per_second=flops_per_second,
        memory_bytes=1 << 30,
        memory_bandwidth_bytes_per_s=1e9,
        overhead_s=1e-3,
    )


CLUSTER = Cluster(
    devices=(device("fast", 1e9), device("slow", 2.5e8)),
    network=Link(bandwidth_bytes_per_s=1e6, latency_s=0.0),
    source="slow",
)


def kernel(*, flops: int, num_bytes: int, num_steps: int = 1) -> Kernel:
    step = Step("aten.relu.default", ())
    return Kernel(operator="op", steps=(step,) * num_steps, outputs=(), flops=flops, num_bytes=num_bytes)


@pytest.mark.parametrize(
    ("rank", "flops", "num_bytes", "num_steps", "seconds"),
    [
        (0, 5_000_000, 1_000, 1, 1e-3 + 5e-3),  # arithmetic binds: 5 MFLOP at 1 GFLOP/s
        (1, 5_000_000, 1_000, 1, 1e-3 + 20e-3),  # on a device of a quarter of the speed
        (0, 5_000, 7_000_000, 1, 1e-3 + 7e-3),  # memory binds: 7 MB at 1 GB/s
        (0, 0, 0, 3, 3e-3),  # three calls to start
    ],
)
def test_a_kernel_takes_the_longer_of_arithmetic_and_traffic(
    rank: int, flops: int, num_bytes: int, num_steps: int, seconds: float
) -> None:
    cost = CostModel(cluster=CLUSTER)
    assert cost.kernel_s(
        rank, kernel(flops=flops, num_bytes=num_bytes, num_steps=num_steps)
    ) == pytest.approx(seconds)


def test_a_measurement_replaces_the_roofline_in_proportion() -> None:
    """Measured whole on the fast device: 8 ms. Half of it there is 4 ms, on the slow device 16 ms."""
    measured = {"op": Measurement(8e-3, flops=1_000, num_bytes=10)}
    cost = CostModel(cluster=CLUSTER, measured=measured, measured_flops_per_second=1e9)

    half = kernel(flops=500, num_bytes=5)

    assert cost.kernel_s(0, half) == pytest.approx(4e-3)
    assert cost.kernel_s(1, half) == pytest.approx(16e-3)


def test_what_does_no_arithmetic_is_shared_out_by_traffic() -> None:
    measured = {"op": Measurement(8e-3, flops=0, num_bytes=100)}
    cost = CostModel(cluster=CLUSTER, measured=measured, measured_flops_per_second=1e9)

    assert cost.kernel_s(0, kernel(flops=0, num_bytes=25)) == pytest.approx(2e-3)


def test_an_operator_that_was_not_measured_has_its_roofline() -> None:
    measured = {"other": Measurement(8e-3, flops=1, num_bytes=1)}
    cost = CostModel(cluster=CLUSTER, measured=measured, measured_flops_per_second=1e9)

    assert cost.kernel_s(0, kernel(flops=1_000_000, num_bytes=0)) == pytest.approx(2e-3)


def test_measurements_need_the_rate_of_their_device() -> None:
    with pytest.raises(ConfigError, match=r"measured operators need the rate .* got 0 FLOP/s"):
        CostModel(cluster=CLUSTER, measured={"op": Measurement(1.0, 1, 1)})


def test_assembling_reads_and_writes_every_part() -> None:
    cost = CostModel(cluster=CLUSTER)
    region = Region.full((1000,))
    total = Assemble(
        buffer=2,
        tensor="x",
        region=region,
        dtype="float32",
        parts=(Part(0, region), Part(1, region)),
        is_sum=True,
        stage="s",
    )

    # Two parts of 4,000 bytes, read and written, at 1 GB/s, and one call.
    assert cost.assemble_s(0, total, itemsize=4) == pytest.approx(1e-3 + 16e-6)
    # The client is on the host of the source.
    assert cost.assemble_s(CLIENT, total, itemsize=4) == cost.assemble_s(1, total, itemsize=4)


def test_frames_cost_processor_time_on_workers_only() -> None:
    cost = CostModel(cluster=CLUSTER)
    assert cost.message_s(0) == cost.message_s(1) == MESSAGE_OVERHEAD_S
    assert cost.message_s(CLIENT) == 0.0
    assert CostModel(cluster=CLUSTER, message_overhead_s=0.5).message_s(1) == 0.5
