"""Plans that break the contract are refused, with a message that says where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgeflow.cluster import Cluster, Device, Link
from edgeflow.cost import predict
from edgeflow.errors import InfeasiblePlanError, InvalidPlanError
from edgeflow.graph.capture import capture
from edgeflow.plan import Piece, Shard, Stage, verify_plan
from edgeflow.plan.verify import memory_bytes, plan_memory_bytes
from edgeflow.sharding.region import Interval, Region
from tests.unit.plan.tiny import Owned, between_devices, convs, cut, mlp, plan, stage, summed, whole

_PAIR = ["linear", "relu", "linear_1"]


def refused(*stages: Stage, match: str) -> None:
    with pytest.raises(InvalidPlanError, match=match):
        verify_plan(plan(mlp(), *stages))


_FULL = Piece(Region.full((2, 4)))


def after(*devices: int) -> Stage:
    return stage("after", ["relu_1"], whole(mlp(), "relu_1", *devices))


def pair(owned: Owned) -> Stage:
    return stage("pair", _PAIR, owned)


def test_a_plan_that_keeps_the_contract_passes() -> None:
    verify_plan(plan(mlp(), pair(summed(mlp(), "linear_1", {0: (0, 3), 1: (3, 6)})), after(1)))


def test_an_operator_is_missing() -> None:
    refused(pair(whole(mlp(), "linear_1", 0)), match="1 operators are in no stage, the first is 'relu_1'")


def test_an_operator_stands_twice_in_a_stage() -> None:
    refused(
        stage("a", [*_PAIR, "linear_1"], whole(mlp(), "linear_1", 0)),
        match="'linear_1' is twice in stage 'a'",
    )


def test_a_device_makes_in_two_stages_the_same() -> None:
    both = stage("both", [*_PAIR, "relu_1"], {0: {"linear_1": _FULL, "relu_1": _FULL}})
    refused(both, after(0), match=r"'after': rank 0 makes parts of \[0:2, 0:4\] of 'relu_1' twice")


def test_stages_may_each_make_a_part() -> None:
    """And each device what the other lacks of it."""
    top, bottom = Region.of([(0, 1), (0, 4)]), Region.of([(1, 2), (0, 4)])
    first = stage("first", [*_PAIR, "relu_1"], {0: {"linear_1": _FULL, "relu_1": Piece(top)}})
    verify_plan(plan(mlp(), first, stage("second", ["relu_1"], {1: {"relu_1": Piece(bottom)}})))


def test_partial_sums_are_made_in_one_stage() -> None:
    again = stage("again", ["linear_1"], {1: {"linear_1": _FULL}})
    parts = pair(summed(mlp(), "linear_1", {0: (0, 6)}))
    refused(
        parts, again, after(0), match="'again' makes 'linear_1', of which stage 'pair' makes partial sums"
    )


def test_an_operator_stands_before_what_it_reads() -> None:
    refused(after(0), pair(whole(mlp(), "linear_1", 0)), match="'relu_1' stands before 'linear_1'")


def test_an_operator_is_not_of_the_graph() -> None:
    refused(stage("a", ["conv2d"], {}), match="'a' names operator 'conv2d', which the graph lacks")


def test_a_tensor_is_not_of_the_graph() -> None:
    piece = Piece(Region.full((2, 4)))
    refused(pair({0: {"conv2d": piece}}), after(0), match="'conv2d', which the graph lacks")


@pytest.mark.parametrize(
    "region",
    [
        Region.full((2, 5)),
        Region.full((2,)),
        Region.of([(-1, 2), (0, 4)]),
        Region.of([(0, 2), (1, 1)]),
        Region.of([(0, 2), (3, 1)]),
    ],
    ids=str,
)
def test_a_region_is_empty_or_outside_of_its_tensor(region: Region) -> None:
    refused(
        pair({1: {"linear_1": Piece(region)}}), after(0), match=r"'pair', rank 1: .* no region of 'linear_1'"
    )


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_device_is_not_of_the_cluster(rank: int) -> None:
    """Rank -1 is the client: it computes nothing."""
    refused(
        pair(whole(mlp(), "linear_1", rank)), after(0), match=f"rank {rank} is not in a cluster of 4 devices"
    )


def test_a_device_makes_the_same_in_two_shards() -> None:
    shard = Shard(0, tuple(whole(mlp(), "linear_1", 0)[0].items()))
    twice = Stage(name="pair", kind="", operators=tuple(_PAIR), shards=(shard, shard))
    refused(twice, after(0), match=r"rank 0 makes parts of \[0:2, 0:4\] of 'linear_1' twice")


def test_a_device_has_two_pieces_of_a_partial_sum() -> None:
    """It would add the second partial sum unseen."""
    pieces = [summed(mlp(), "linear_1", {0: (0, 3)})[0], summed(mlp(), "linear_1", {0: (3, 6)})[0]]
    shard = Shard(0, tuple(item for owned in pieces for item in owned.items()))
    twice = Stage(name="pair", kind="", operators=tuple(_PAIR), shards=(shard,))
    refused(twice, after(0), match="rank 0 has two pieces of a partial sum")


@pytest.mark.parametrize(
    "bounds",
    [
        {0: (0, 3), 1: (4, 6)},
        {0: (0, 4), 1: (3, 6)},
        {0: (0, 3), 1: (3, 5)},
        {0: (1, 6)},
        {0: (0, 6), 1: (0, 6)},
    ],
    ids=["gap", "overlap", "end-missing", "start-missing", "twice"],
)
def test_partial_sums_are_not_each_element_once(bounds: dict[int, tuple[int, int]]) -> None:
    refused(
        pair(summed(mlp(), "linear_1", bounds)),
        after(0),
        match=r"partial sums of 'linear_1' cover .*\[0, 6\)",
    )


def test_partial_sums_stand_beside_whole_pieces() -> None:
    owned = summed(mlp(), "linear_1", {0: (0, 6)}) | whole(mlp(), "linear_1", 1)
    refused(pair(owned), after(0), match="mixed with whole pieces")


def test_partial_sums_are_of_different_regions() -> None:
    owned = summed(mlp(), "linear_1", {0: (0, 3)})
    owned[1] = {"linear_1": Piece(Region.full((1, 4)), Interval(3, 6))}
    refused(pair(owned), after(0), match="cover different regions")


def test_partial_sums_of_what_does_not_sum() -> None:
    refused(
        pair(whole(mlp(), "linear_1", 0)),
        stage("after", ["relu_1"], summed(mlp(), "relu_1", {0: (0, 4)})),
        match="'relu_1' cannot be: its operator does not sum",
    )


def test_partial_sums_are_handed_over() -> None:
    refused(
        pair(whole(mlp(), "linear_1", 0)),
        stage("turn", [], summed(mlp(), "linear_1", {0: (0, 3), 1: (3, 6)})),
        after(0),
        match="'turn': the partial sums of 'linear_1' cannot be: a stage without operators",
    )


def test_partial_sums_are_read_in_their_own_stage() -> None:
    owned = summed(mlp(), "linear", {0: (0, 4)})
    owned[0] |= whole(mlp(), "relu_1", 0)[0]
    refused(stage("all", [*_PAIR, "relu_1"], owned), match="reads 'linear', which it makes as a partial sum")


def test_a_stage_is_asked_for_what_it_does_not_make() -> None:
    refused(
        pair(whole(mlp(), "linear_1", 0) | whole(mlp(), "relu_1", 1)),
        after(0),
        match="does not make 'relu_1'",
    )


def test_a_need_is_not_covered() -> None:
    refused(
        pair(cut(mlp(), "linear_1", 1, {0: (0, 1), 1: (3, 4)})),
        after(2),
        match=r"needs \[0:2, 1:3\] of 'linear_1', which no device owns",
    )


def test_an_answer_is_not_owned() -> None:
    refused(
        pair(whole(mlp(), "linear_1", 0)), stage("after", ["relu_1"], {}), match="'outputs' needs 'relu_1'"
    )


def test_memory_counts_weights_and_buffers() -> None:
    graph = convs(3, 3)
    cluster = Cluster.local([1.0, 1.0], memory=300)
    alone = plan(graph, stage("a", ["conv2d", "conv2d_1"], whole(graph, "conv2d_1", 1)), cluster=cluster)

    with pytest.raises(InfeasiblePlanError, match=r"'device1' needs 464 bytes .* offers 300") as caught:
        verify_plan(alone)

    # Two kernels of 9 floats with a bias each, and three images of 8 x 4 floats at once: the input is kept
    # until the stage has ended.
    assert memory_bytes(alone.programs) == {1: 2 * 10 * 4 + 3 * 128}
    assert caught.value.constraint == "memory"
    assert (caught.value.required, caught.value.available) == (464, 300)


class _Recurrent(nn.Module):
    """An operator of several outputs of different shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(x)
        return torch.relu(hidden)


def test_ways_share_weights_but_not_buffers() -> None:
    alone = plan(mlp(), pair(whole(mlp(), "linear_1", 1)), after(1)).decision
    both = replace(alone, replicas=(alone.stages,))
    weights = sum(item.num_bytes for item in alone.programs[1].weights)

    (needed,) = plan_memory_bytes(alone).values()

    assert needed == memory_bytes(alone.programs)[1]
    assert plan_memory_bytes(both) == {1: weights + 2 * (needed - weights)}


def test_of_several_outputs_one_that_is_not_the_first_may_be_owned_alone() -> None:
    """The second output is larger than the first; what is asked for is not measured against the wrong one."""
    graph = capture(_Recurrent().eval(), (torch.randn(2, 1, 3),))
    lstm, relu = graph.operators
    hidden = relu.inputs[0]

    made = plan(
        graph,
        stage("a", [lstm.name], whole(graph, hidden, 0)),
        stage("b", [relu.name], whole(graph, relu.output, 1)),
    )

    verify_plan(made)


_WIRE = Link(bandwidth_bytes_per_s=1e6, latency_s=1e-3)


def disconnected(*missing: str) -> Cluster:
    """Devices a, b and c; ``missing`` names pairs without a link, in one direction."""
    return Cluster(
        devices=tuple(Device(name=name, flops_per_second=1e6, memory_bytes=1 << 30) for name in "abc"),
        network=_WIRE,
        links=tuple((pair[0], pair[1], None) for pair in missing),
    )


def test_of_several_owners_one_that_is_connected_sends() -> None:
    """Device 2 needs what 0 and 1 both own."""
    graph = convs(3, 3)
    stages = (
        stage("first", ["conv2d"], whole(graph, "conv2d", 0, 1)),
        stage("second", ["conv2d_1"], whole(graph, "conv2d_1", 2)),
    )

    for missing, source in (("ac", 1), ("bc", 0)):
        made = plan(graph, *stages, cluster=disconnected(missing))
        verify_plan(made)
        assert [item.source for item in between_devices(made.programs)] == [source]
        assert predict(made).latency_s > 0


def test_a_plan_that_needs_a_missing_link_is_infeasible_and_names_the_pair() -> None:
    graph = convs(3, 3)
    made = plan(
        graph,
        stage("first", ["conv2d"], whole(graph, "conv2d", 1)),
        stage("second", ["conv2d_1"], whole(graph, "conv2d_1", 2)),
        cluster=disconnected("bc"),
    )

    with pytest.raises(InfeasiblePlanError, match="no link from device 'b' to 'c'") as caught:
        verify_plan(made)
    assert caught.value.constraint == "link"
