"""Costs by hand: a roofline, measurements that replace it, copies and frames."""

from __future__ import annotations

import math

import msgspec
import pytest

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cluster.profile import DeviceProfile, FamilyCost, LearnedModel, MessageCost, Tree
from edgeflow.cost import CostModel, MeasuredRuns, Measurement, Span, work_of
from edgeflow.cost.model import ANY_FAMILY, MESSAGE_OVERHEAD_S
from edgeflow.errors import ConfigError
from edgeflow.plan.program import CLIENT, Assemble, Kernel, Part, Send
from edgeflow.sharding.cut import Slice, Step
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


LINEAR = FamilyCost(family="linear", terms=(("call", 1e-3), ("flop", 1e-9), ("weight_byte", 1e-6)))
PROFILE = DeviceProfile(
    name="fast",
    flops_per_second=1e9,
    memory_bandwidth_bytes_per_s=1e9,
    memory_bytes=1 << 30,
    families=(LINEAR,),
    copy_s=2e-3,
    copy_s_per_byte=1e-6,
    message=MessageCost(send_s=3e-3, receive_s=4e-3, send_s_per_byte=1e-6, receive_s_per_byte=2e-6),
)
#: The fast device was profiled, the slow one was not.
PROFILED = msgspec.structs.replace(
    CLUSTER, devices=(msgspec.structs.replace(CLUSTER.devices[0], profile=PROFILE), CLUSTER.devices[1])
)


def linear(rows: int) -> Kernel:
    """``rows`` x 10 by 10 x 50: 1,000 FLOPs a row, 2,000 bytes of weights whatever the rows."""
    arguments = (
        ("input", Slice("x", Region.full((rows, 10)))),
        ("weight", Slice("w", Region.full((50, 10)))),
        ("bias", None),
    )
    return Kernel(
        operator="op",
        steps=(Step("aten.linear.default", arguments),),
        outputs=(("y", Region.full((rows, 50))),),
        flops=1000 * rows,
        num_bytes=4 * (10 * rows + 500 + 50 * rows),
    )


def test_a_profile_replaces_the_roofline_on_its_device_only() -> None:
    cost = CostModel(cluster=PROFILED)

    assert cost.kernel_s(0, linear(8)) == pytest.approx(1e-3 + 8_000e-9 + 2_000e-6)
    assert cost.kernel_s(1, linear(8)) == CostModel(cluster=CLUSTER).kernel_s(1, linear(8))


def test_a_slice_of_a_measured_operator_takes_its_share_by_the_reference_profile() -> None:
    """Not by FLOPs: its weights are read whole, and it has to be started as well."""
    whole = Measurement(12e-3, flops=8_000, num_bytes=1, work=work_of(linear(8)))
    cost = CostModel(
        cluster=CLUSTER, measured={"op": whole}, measured_flops_per_second=1e9, reference=PROFILE
    )

    share = (1e-3 + 1_000e-9 + 2_000e-6) / (1e-3 + 8_000e-9 + 2_000e-6)
    assert cost.kernel_s(0, linear(8)) == pytest.approx(12e-3)
    assert cost.kernel_s(0, linear(1)) == pytest.approx(12e-3 * share)
    assert cost.kernel_s(1, linear(1)) == pytest.approx(4 * 12e-3 * share)


def test_an_operator_that_was_not_measured_follows_the_reference_profile() -> None:
    cost = CostModel(cluster=CLUSTER, measured_flops_per_second=1e9, reference=PROFILE)

    assert cost.kernel_s(1, linear(8)) == pytest.approx(4 * cost.kernel_s(0, linear(8)))
    assert cost.kernel_s(0, linear(8)) == pytest.approx(1e-3 + 8_000e-9 + 2_000e-6)


def test_without_a_profile_a_slice_that_reads_all_bytes_is_not_cheap() -> None:
    """1 us of arithmetic and 1 us of traffic: with half of one and all of the other, three quarters."""
    measured = {"op": Measurement(8e-3, flops=1_000, num_bytes=1_000)}
    cost = CostModel(cluster=CLUSTER, measured=measured, measured_flops_per_second=1e9)

    assert cost.kernel_s(0, kernel(flops=500, num_bytes=1_000)) == pytest.approx(6e-3)


RUN_TOGETHER = CostModel(
    cluster=CLUSTER,
    measured={
        "op": Measurement(12e-3, flops=8_000, num_bytes=1, work=work_of(linear(8))),
        "relu": Measurement(4e-3, flops=10, num_bytes=80),
        "view": Measurement(2e-3, flops=0, num_bytes=0, elements=100),
    },
    measured_runs=MeasuredRuns(
        operators=("op", "relu", "view"), alone_s=(12e-3, 4e-3, 2e-3), spans=(Span(0, 2, 14e-3),)
    ),
    measured_start_s=1e-3,
    measured_flops_per_second=1e9,
    reference=PROFILE,
)
RELU = msgspec.structs.replace(kernel(flops=10, num_bytes=80), operator="relu")


def test_operators_that_were_measured_together_cost_what_they_took_together() -> None:
    """Alone 12 and 4 ms, together 14; and 1 ms to start whatever it is."""
    cost = msgspec.structs.replace(RUN_TOGETHER, reference=None)
    whole = msgspec.structs.replace(linear(8), num_bytes=1)

    assert cost.compute_s(0, (whole, RELU)) == pytest.approx(15e-3)
    assert cost.compute_s(1, (whole, RELU)) == pytest.approx(60e-3)
    assert cost.kernels_s(0, (whole, RELU)) == pytest.approx([10.5e-3, 3.5e-3])
    assert cost.kernels_s(0, (RELU,), among=("op", "relu")) == pytest.approx([3.5e-3])
    assert cost.compute_s(0, (RELU,)) == pytest.approx(5e-3)
    assert cost.compute_s(0, ()) == 0.0


def test_slices_that_run_together_take_their_shares_of_it() -> None:
    share = (1e-3 + 1_000e-9 + 2_000e-6) / (1e-3 + 8_000e-9 + 2_000e-6)

    assert RUN_TOGETHER.kernels_s(0, (linear(1), RELU))[0] == pytest.approx(10.5e-3 * share)
    assert RUN_TOGETHER.kernels_s(0, (linear(1),))[0] == pytest.approx(12e-3 * share)


def test_what_no_run_holds_costs_what_it_does_alone() -> None:
    stranger = msgspec.structs.replace(linear(8), operator="stranger")

    found = RUN_TOGETHER.kernels_s(0, (linear(8), stranger))

    assert found[1] == pytest.approx(1e-3 + 8_000e-9 + 2_000e-6)


def test_a_view_is_told_by_its_elements() -> None:
    """It has no arithmetic and no traffic to share by, but a back end took time for it."""
    cost = msgspec.structs.replace(RUN_TOGETHER, reference=None)
    half = Kernel(
        operator="view",
        steps=(Step("aten.view.default", ()),),
        outputs=(("y", Region.full((50,))),),
        flops=0,
        num_bytes=0,
    )

    assert cost.kernel_s(0, half) == pytest.approx(1e-3)


def test_a_device_with_a_profile_has_starts_and_company_in_it() -> None:
    cost = msgspec.structs.replace(RUN_TOGETHER, cluster=PROFILED)

    assert cost.compute_s(0, (linear(8), RELU)) == pytest.approx(
        sum(CostModel(cluster=PROFILED).kernel_s(0, item) for item in (linear(8), RELU))
    )
    assert cost.start_s(1) == pytest.approx(4e-3)


def test_history_corrects_starts_with_everything_else() -> None:
    cost = msgspec.structs.replace(RUN_TOGETHER, corrections={"fast": {ANY_FAMILY: 2.0}})

    assert cost.compute_s(0, (linear(8), RELU)) == pytest.approx(
        2 * RUN_TOGETHER.compute_s(0, (linear(8), RELU))
    )


def test_history_corrects_by_device_and_family() -> None:
    plain = CostModel(cluster=PROFILED)
    cost = CostModel(
        cluster=PROFILED, corrections={"fast": {"linear": 1.5}, "slow": {"conv": 9.0, ANY_FAMILY: 2.0}}
    )

    assert cost.kernel_s(0, linear(8)) == pytest.approx(1.5 * plain.kernel_s(0, linear(8)))
    relu = kernel(flops=10, num_bytes=80)
    assert cost.kernel_s(0, relu) == plain.kernel_s(0, relu)
    assert cost.kernel_s(1, linear(8)) == pytest.approx(2 * plain.kernel_s(1, linear(8)))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_correction_that_cannot_be(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"correction of 'conv' on device 'slow' must be positive"):
        CostModel(cluster=CLUSTER, corrections={"slow": {"conv": factor}})


def test_a_correction_of_an_unknown_device() -> None:
    with pytest.raises(ConfigError, match="no device 'mac'; devices: fast, slow"):
        CostModel(cluster=CLUSTER, corrections={"mac": {}})


def test_trees_correct_the_profile_of_their_device() -> None:
    leaf = Tree(feature=(-1,), threshold=(0.0,), left=(0,), right=(0,), value=(math.log(1.25),))
    trees = LearnedModel(base=0.0, trees=(leaf,), num_samples=1, cross_validated_error=0.0, fitted_error=0.0)
    fast, slow = PROFILED.devices
    assert fast.profile is not None
    profile = msgspec.structs.replace(fast.profile, learned=trees)
    corrected = msgspec.structs.replace(fast, profile=profile)
    plain = CostModel(cluster=PROFILED)
    learned = CostModel(cluster=msgspec.structs.replace(PROFILED, devices=(corrected, slow)))

    assert learned.kernel_s(0, linear(8)) == pytest.approx(1.25 * plain.kernel_s(0, linear(8)))
    assert learned.kernel_s(1, linear(8)) == plain.kernel_s(1, linear(8))


def test_frames_and_copies_follow_the_profile() -> None:
    cost = CostModel(cluster=PROFILED)
    region = Region.full((10, 100))
    frame = Send(buffer=0, tensor="x", region=region, dtype="float32", peer=1, tag=0, stage="s")
    copy = Assemble(
        buffer=1,
        tensor="x",
        region=region,
        dtype="float32",
        parts=(Part(0, region),),
        is_sum=False,
        stage="s",
    )

    assert cost.send_s(0, frame, region) == pytest.approx(3e-3 + 4e-3)
    assert cost.message_s(0, 4000) == pytest.approx(4e-3 + 8e-3)  # the dearer side
    assert cost.send_s(1, frame, region) == cost.message_s(1) == MESSAGE_OVERHEAD_S
    assert cost.assemble_s(0, copy, itemsize=4) == pytest.approx(2e-3 + 2 * 4000e-6)


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
