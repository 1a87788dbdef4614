"""Each strategy decides what its paper says, and `auto` what is predicted fastest."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import nn

from edgeflow.cluster.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.graph.capture import capture
from edgeflow.plan import Plan, Stage
from edgeflow.planner import plan, strategies
from edgeflow.sharding.region import Interval
from tests.unit.planner.graphs import captured, graph


def intervals(stage: Stage, dim: int) -> dict[int, int]:
    """Device -> length of what it owns of the stage's first output along ``dim``."""
    return {shard.device: shard.outputs[0][1].region[dim].length for shard in stage.shards}


def test_strategies_are_listed_with_what_they_do() -> None:
    published = "single replicate modnn deepthings deeperthings coedge fused megatron galaxy voltage pipeline"
    assert {*published.split(), "auto", "brute_force"} <= set(strategies())
    assert all(len(line) > 20 and "\n" not in line for line in strategies().values())


def test_a_strategy_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"no strategy 'magic'; known: single, replicate, .*auto"):
        plan(graph("mlp"), Cluster.local(), strategy="magic")


def test_an_objective_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="no objective 'beauty'; known: latency, throughput, energy"):
        plan(graph("mlp"), Cluster.local(), objective="beauty")


@pytest.mark.parametrize("strategy", [name for name in strategies() if name != "brute_force"])
def test_on_one_device_every_strategy_is_the_same(strategy: str) -> None:
    made = plan(graph("tiny-vit"), Cluster.local(), strategy=strategy)

    assert made.devices == (0,)
    assert made.strategy == strategy
    assert made.predicted_latency_s == plan(graph("tiny-vit"), Cluster.local()).predicted_latency_s


@pytest.mark.parametrize("strategy", list(strategies()))
def test_a_model_without_operators_has_a_plan(strategy: str) -> None:
    made = plan(captured(nn.Identity(), 2, 3), Cluster.local([1.0, 0.5]), strategy=strategy)

    assert made.devices == ()
    assert made.predicted_latency_s == 0.0
    assert "0 operators" in made.explain()


# single


def test_single_takes_the_fastest_device() -> None:
    made = plan(graph("unet"), Cluster.local([0.3, 1.0, 0.6], bandwidth="10 Gbit/s"), strategy="single")

    assert made.devices == (1,)
    assert [item.label for item in made.candidates] == [f"single on device{rank}" for rank in (1, 2, 0)]


def test_single_stays_where_requests_arrive_when_the_way_is_long() -> None:
    made = plan(graph("unet"), Cluster.local([0.8, 1.0], bandwidth="1 Mbit/s"), strategy="single")

    assert made.devices == (0,)


def test_single_takes_the_best_device_that_can_hold_the_model() -> None:
    cluster = Cluster.local([1.0, 0.5], memory="2 GiB")
    small = msgspec.structs.replace(cluster.devices[0], memory_bytes=100_000)
    cluster = msgspec.structs.replace(cluster, devices=(small, cluster.devices[1]))

    made = plan(graph("tiny-resnet"), cluster, strategy="single")

    assert made.devices == (1,)
    failed = next(item for item in made.candidates if item.label == "single on device0")
    assert failed.latency_s is None
    assert "'device0' needs" in failed.reason


# coedge


def slow(*speeds: float) -> Cluster:
    """Devices so slow that sharing pays on this network."""
    devices = tuple(
        Device(name=f"device{rank}", flops_per_second=1e8 * speed, memory_bytes=1 << 30, overhead_s=0.0)
        for rank, speed in enumerate(speeds)
    )
    return Cluster(devices=devices, network=Link(bandwidth_bytes_per_s=1e9, latency_s=1e-5))


def test_coedge_shares_rows_about_in_proportion_to_speed() -> None:
    made = plan(graph("tiny-resnet"), slow(1.0, 0.5, 0.5), strategy="coedge")

    first = made.stages[0]
    assert first.kind == "rows"
    assert intervals(first, 2) == {
        0: pytest.approx(16, abs=1),
        1: pytest.approx(8, abs=1),
        2: pytest.approx(8, abs=1),
    }
    assert made.chosen.startswith("coedge rows")


def test_coedge_leaves_out_a_device_whose_strip_is_thinner_than_the_padding() -> None:
    made = plan(graph("tiny-resnet"), slow(1.0, 0.5, 0.05), strategy="coedge")

    assert made.devices == (0, 1)


def test_coedge_runs_what_follows_the_cnn_on_the_fastest_device() -> None:
    made = plan(graph("tiny-resnet"), slow(0.5, 1.0, 0.5), strategy="coedge")

    assert made.stages[-1].devices == (1,)


# megatron


def contractions(made: Plan) -> list[list[Interval]]:
    """For each stage that sums, the devices' intervals."""
    found = [
        [piece.contraction for shard in stage.shards for _, piece in shard.outputs if piece.contraction]
        for stage in made.stages
    ]
    return [item for item in found if item]


@pytest.mark.parametrize("speeds", [[1.0, 1.0], [1.0, 0.5], [1.0, 0.7, 0.3], [0.2, 0.9, 0.5, 0.4, 1.0]])
def test_megatron_gives_whole_heads_in_unequal_shares(speeds: list[float]) -> None:
    """Two blocks of 6 heads of 16 features, each followed by 384 hidden columns, in blocks of 8."""
    made = plan(graph("tiny-vit"), Cluster.local(speeds), strategy="megatron")

    heads = [items for items in contractions(made) if items[-1].stop == 96]
    columns = [items for items in contractions(made) if items[-1].stop == 384]

    assert len(heads) == len(columns) == 2
    assert all(bound % 16 == 0 for items in heads for interval in items for bound in interval)
    for items in columns:
        lengths = [interval.length for interval in items]
        assert lengths == pytest.approx([384 * speed / sum(speeds) for speed in speeds], abs=8)
        assert all(length % 8 == 0 for length in lengths)


def test_megatron_needs_less_memory_on_each_device_than_one_would() -> None:
    cluster = Cluster.local([1.0] * 4)

    alone = plan(graph("tiny-vit"), cluster, strategy="single").programs[0]
    together = plan(graph("tiny-vit"), cluster, strategy="megatron").programs

    weights = [sum(item.num_bytes for item in together[rank].weights) for rank in range(1, 4)]
    assert max(weights) < 0.5 * sum(item.num_bytes for item in alone.weights)


# auto


def test_auto_stays_on_one_device_on_a_slow_network() -> None:
    made = plan(graph("tiny-resnet"), Cluster.local([1.0, 1.0, 1.0], bandwidth="1 Mbit/s"))

    assert made.devices == (0,)
    assert "one device alone is faster than any split" in made.explain()


def test_auto_is_nearly_twice_as_fast_on_two_devices_on_a_perfect_network() -> None:
    device = Device(
        name="device0",
        flops_per_second=4e10,
        memory_bytes=1 << 30,
        memory_bandwidth_bytes_per_s=1e12,
        overhead_s=0.0,
    )
    cluster = Cluster(
        devices=(device, msgspec.structs.replace(device, name="device1")),
        network=Link(bandwidth_bytes_per_s=100e9 / 8, latency_s=0.0),
    )
    cost = CostModel(cluster=cluster, message_overhead_s=0.0)

    alone = plan(graph("tiny-resnet"), cluster, strategy="single", cost=cost).predicted_latency_s
    together = plan(graph("tiny-resnet"), cluster, cost=cost).predicted_latency_s

    assert 1.85 < alone / together <= 2.0


def test_auto_mixes_rows_and_tensor_parallelism_where_no_device_holds_everything() -> None:
    """A hybrid of 17 MB of weights on devices of 15 MiB: rows for the CNN, heads and columns after it.

    Where messages cost little; else one device hands over to another.
    """
    cluster = Cluster.local([1.0, 0.9, 0.8], memory="15 MiB", bandwidth="10 Gbit/s", latency="20 us")

    made = plan(graph("openworld-small"), cluster)

    kinds = [stage.kind for stage in made.stages]
    assert "rows" in kinds
    assert "tensor" in kinds
    assert max(index for index, kind in enumerate(kinds) if kind == "rows") < kinds.index("tensor")
    with pytest.raises(InfeasiblePlanError):
        plan(graph("openworld-small"), cluster, strategy="single")


def test_memory_that_holds_it_in_no_way_is_an_error_with_bytes() -> None:
    with pytest.raises(InfeasiblePlanError, match=r"needs [\d,]+ bytes .* it offers 1,048,576") as caught:
        plan(graph("openworld-small"), Cluster.local([1.0, 0.6], memory="1 MiB"))

    assert caught.value.constraint == "memory"
    assert caught.value.available == 1 << 20
    assert caught.value.required is not None
    assert caught.value.required > 1 << 20


def test_auto_weighs_every_other_strategy() -> None:
    made = plan(graph("tiny-vit"), Cluster.local([1.0, 0.5]))

    labels = [item.label for item in made.candidates]
    for word in ("single on device0", "coedge", "megatron", "search"):
        assert any(label.startswith(word) for label in labels), word
    latencies = [item.latency_s for item in made.candidates if item.latency_s is not None]
    assert made.predicted_latency_s == min(latencies)
    assert latencies == sorted(latencies)


def test_plans_are_the_same_each_time() -> None:
    cluster = Cluster.local([1.0, 0.5, 0.7], bandwidth="10 Gbit/s")

    assert plan(graph("tiny-vit"), cluster).fingerprint == plan(graph("tiny-vit"), cluster).fingerprint


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_energy_of_replicas_is_that_of_the_way_that_a_request_goes(objective: str) -> None:
    """Not that of a mixture with slower ways, whose latency is not the plan's."""
    cluster = Cluster.local([1.0, 0.2])
    watts = (100.0, 1.0)
    devices = tuple(
        msgspec.structs.replace(device, power_compute_w=power)
        for device, power in zip(cluster.devices, watts, strict=True)
    )
    cluster = msgspec.structs.replace(cluster, devices=devices)
    fast = plan(graph("tiny-resnet"), cluster, "single")

    both = plan(graph("tiny-resnet"), cluster, "replicate", objective, deadline_s=fast.predicted_latency_s)

    assert len(both.ways) == 2
    assert both.predicted_latency_s == fast.predicted_latency_s
    assert both.predicted_energy_j == fast.predicted_energy_j


def test_brute_force_refuses_more_plans_than_a_float_holds() -> None:
    with pytest.raises(InfeasiblePlanError, match=r"at least 1e\+300 plans"):
        plan(graph("resnet50"), Cluster.local([1.0] * 64), "brute_force")


@pytest.mark.parametrize(("share", "spare_kib"), [(0.7, 500), (0.8, 500), (0.9, 200), (1.0, 200)])
def test_pipelines_leave_room_for_buffers(share: float, spare_kib: int) -> None:
    """The best division of the weights does not fit with its buffers; one that does is found."""
    torch.manual_seed(0)
    layers = [layer for _ in range(9) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    graph = capture(nn.Sequential(*layers).eval(), (torch.zeros(1, 64, 32, 32),))
    weights = sum(graph.specs[name].num_bytes for name in graph.weights)
    cluster = Cluster.local((1.0, 0.5, 0.25), memory=int(share * weights) + spare_kib * 1024)
    roomy = Cluster.local((1.0, 0.5, 0.25))

    made = plan(graph, cluster, strategy="pipeline", objective="throughput")
    free = plan(graph, roomy, strategy="pipeline", objective="throughput")

    assert len(made.devices) > 1
    assert made.predicted_period_s > free.predicted_period_s  # what is best does not fit
