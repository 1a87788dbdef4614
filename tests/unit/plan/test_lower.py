"""Each pattern of communication as the smallest plan that needs it, every frame and byte counted.

All of them come out of one rule: a device receives what it needs of what others own.
"""

from __future__ import annotations

import pytest
import torch

from edgeflow.cluster.cluster import Cluster, Link
from edgeflow.errors import InvalidPlanError
from edgeflow.plan import Piece, Plan, Shard, Stage
from edgeflow.plan.program import CLIENT, Assemble, Compute, Free, Part, Program, Receive, Send
from edgeflow.rank.local import execute
from edgeflow.sharding.region import Interval
from tests.property.programs import check_programs
from tests.unit.plan.tiny import (
    Transfer,
    between_devices,
    convs,
    cut,
    fork,
    mlp,
    plan,
    stage,
    summed,
    transfers,
    whole,
)

_ROWS = {0: (0, 4), 1: (4, 8)}


def checked(made: Plan) -> Plan:
    """Check programs, and that all devices together answer what one alone does."""
    graph = made.graph
    check_programs(graph, made.programs)
    inputs = tuple(torch.randn(graph.specs[name].shape) for name in graph.inputs)
    pieces = {name: piece for name in graph.outputs for piece in whole(graph, name, 0)[0].values()}
    alone = plan(graph, stage("all", [op.name for op in graph.operators], {0: pieces}))
    torch.testing.assert_close(execute(made, inputs), execute(alone, inputs))
    return made


def sums(program: Program) -> list[Assemble]:
    return [item for item in program.instructions if isinstance(item, Assemble) and item.is_sum]


def test_one_device_takes_the_input_and_gives_the_answer() -> None:
    graph = mlp()
    operators = [op.name for op in graph.operators]

    made = checked(plan(graph, stage("all", operators, whole(graph, "relu_1", 0))))

    assert transfers(made.programs) == [
        Transfer(CLIENT, 0, "input", "[0:2, 0:4]", 32),
        Transfer(0, CLIENT, "relu_1", "[0:2, 0:4]", 32),
    ]


def test_neighbours_exchange_one_row_of_halo() -> None:
    graph = convs(3, 3)

    made = checked(
        plan(
            graph,
            stage("a", ["conv2d"], cut(graph, "conv2d", 2, _ROWS)),
            stage("b", ["conv2d_1"], cut(graph, "conv2d_1", 2, _ROWS)),
        )
    )

    assert transfers(made.programs) == [
        Transfer(CLIENT, 0, "input", "[0:1, 0:1, 0:5, 0:4]", 80),
        Transfer(CLIENT, 1, "input", "[0:1, 0:1, 3:8, 0:4]", 80),
        Transfer(1, 0, "conv2d", "[0:1, 0:1, 4:5, 0:4]", 16),
        Transfer(0, 1, "conv2d", "[0:1, 0:1, 3:4, 0:4]", 16),
        Transfer(0, CLIENT, "conv2d_1", "[0:1, 0:1, 0:4, 0:4]", 64),
        Transfer(1, CLIENT, "conv2d_1", "[0:1, 0:1, 4:8, 0:4]", 64),
    ]


def test_the_client_serves_its_own_host_last() -> None:
    graph = convs(3, 3)

    made = checked(plan(graph, stage("a", ["conv2d", "conv2d_1"], cut(graph, "conv2d_1", 2, _ROWS))))

    sent_to = [item.peer for item in made.programs[CLIENT].instructions if isinstance(item, Send)]
    assert sent_to == [1, made.cluster.source_rank]


def test_a_halo_that_is_recomputed_is_one_stage_and_no_frame() -> None:
    graph = convs(3, 3)

    made = checked(plan(graph, stage("a", ["conv2d", "conv2d_1"], cut(graph, "conv2d_1", 2, _ROWS))))

    assert between_devices(made.programs) == []
    assert transfers(made.programs)[0] == Transfer(CLIENT, 0, "input", "[0:1, 0:1, 0:6, 0:4]", 96)


def test_a_halo_thicker_than_the_neighbours_strip_comes_from_two_devices() -> None:
    graph = convs(1, 7)
    strips = {rank: (2 * rank, 2 * rank + 2) for rank in range(4)}

    made = checked(
        plan(
            graph,
            stage("a", ["conv2d"], cut(graph, "conv2d", 2, strips)),
            stage("b", ["conv2d_1"], cut(graph, "conv2d_1", 2, strips)),
        )
    )

    assert [item for item in between_devices(made.programs) if item.peer == 0] == [
        Transfer(1, 0, "conv2d", "[0:1, 0:1, 2:4, 0:4]", 32),
        Transfer(2, 0, "conv2d", "[0:1, 0:1, 4:5, 0:4]", 16),
    ]


def test_scatter_then_gather() -> None:
    graph = convs(1, 3, 1)

    made = checked(
        plan(
            graph,
            stage("one", ["conv2d"], whole(graph, "conv2d", 0)),
            stage("two", ["conv2d_1"], cut(graph, "conv2d_1", 2, {1: (0, 4), 2: (4, 8)})),
            stage("one-again", ["conv2d_2"], whole(graph, "conv2d_2", 0)),
        )
    )

    assert between_devices(made.programs) == [
        Transfer(0, 1, "conv2d", "[0:1, 0:1, 0:5, 0:4]", 80),
        Transfer(0, 2, "conv2d", "[0:1, 0:1, 3:8, 0:4]", 80),
        Transfer(1, 0, "conv2d_1", "[0:1, 0:1, 0:4, 0:4]", 64),
        Transfer(2, 0, "conv2d_1", "[0:1, 0:1, 4:8, 0:4]", 64),
    ]


def test_columns_are_all_gathered_where_every_device_reads_all() -> None:
    graph = mlp()
    columns = {rank: (2 * rank, 2 * rank + 2) for rank in range(3)}

    made = checked(
        plan(
            graph,
            stage("columns", ["linear", "relu"], cut(graph, "relu", 1, columns)),
            stage("copies", ["linear_1", "relu_1"], whole(graph, "relu_1", 0, 1, 2)),
        )
    )

    found = between_devices(made.programs)
    assert sorted((item.source, item.peer) for item in found) == [
        (source, peer) for source in range(3) for peer in range(3) if source != peer
    ]
    assert {item.num_bytes for item in found} == {2 * 2 * 4}


def _pair(bounds: dict[int, tuple[int, int]]) -> Plan:
    """Column-parallel, then row-parallel, then the sum on both devices."""
    graph = mlp()
    return plan(
        graph,
        stage("pair", ["linear", "relu", "linear_1"], summed(graph, "linear_1", bounds)),
        stage("after", ["relu_1"], whole(graph, "relu_1", 0, 1)),
    )


def test_partial_sums_are_all_reduced_in_one_order() -> None:
    """Both devices add the parts in the order of ranks, so they agree to the last bit."""
    made = checked(_pair({1: (0, 4), 0: (4, 6)}))

    assert sorted(between_devices(made.programs)) == [
        Transfer(0, 1, "linear_1", "[0:2, 0:4]", 32),
        Transfer(1, 0, "linear_1", "[0:2, 0:4]", 32),
    ]
    for rank in (0, 1):
        (total,) = sums(made.programs[rank])
        assert [_origin(made.programs[rank], item) for item in total.parts] == [0, 1]


def _origin(program: Program, item: Part) -> int:
    """The rank whose work is in a part."""
    for instruction in program.instructions:
        if isinstance(instruction, Receive) and instruction.buffer == item.buffer:
            return instruction.peer
    return program.rank


def test_each_device_reads_only_its_slices_of_the_weights() -> None:
    made = _pair({0: (0, 4), 1: (4, 6)})

    shapes = {rank: sorted(item.region.shape for item in made.programs[rank].weights) for rank in (0, 1)}

    assert shapes[0] == [(4,), (4,), (4, 4), (4, 4)]
    assert shapes[1] == [(2,), (2, 4), (4, 2)]  # the bias of a sum is added once, by the first


def test_reduce_scatter_is_a_stage_without_operators() -> None:
    """Partial sums are exchanged by halves, each device adds its own half, and then halves are gathered."""
    graph = mlp()

    made = checked(
        plan(
            graph,
            stage("pair", ["linear", "relu", "linear_1"], summed(graph, "linear_1", {0: (0, 3), 1: (3, 6)})),
            stage("scatter", [], cut(graph, "linear_1", 1, {0: (0, 2), 1: (2, 4)})),
            stage("after", ["relu_1"], whole(graph, "relu_1", 0, 1)),
        )
    )

    assert between_devices(made.programs) == [
        Transfer(1, 0, "linear_1", "[0:2, 0:2]", 16),
        Transfer(0, 1, "linear_1", "[0:2, 2:4]", 16),
        Transfer(1, 0, "linear_1", "[0:2, 2:4]", 16),
        Transfer(0, 1, "linear_1", "[0:2, 0:2]", 16),
    ]
    assert [str(total.region) for total in sums(made.programs[0])] == ["[0:2, 0:2]"]


def test_what_was_gathered_is_handed_out_again() -> None:
    """A device that handed its rows over has them no longer: it gets all that it needs from the new owner."""
    graph = convs(3, 3)

    made = checked(
        plan(
            graph,
            stage("a", ["conv2d"], cut(graph, "conv2d", 2, _ROWS)),
            stage("gather", [], whole(graph, "conv2d", 0)),
            stage("b", ["conv2d_1"], cut(graph, "conv2d_1", 2, _ROWS)),
        )
    )

    assert between_devices(made.programs) == [
        Transfer(1, 0, "conv2d", "[0:1, 0:1, 4:8, 0:4]", 64),
        Transfer(0, 1, "conv2d", "[0:1, 0:1, 3:8, 0:4]", 80),
    ]


def test_of_several_pieces_only_these_are_kept() -> None:
    """Device 0 makes all rows, keeps the first and the last, and sends them to device 1, which lacks them."""
    graph = convs(3, 3)
    full = whole(graph, "conv2d", 0)[0]["conv2d"].region
    borders = tuple(("conv2d", Piece(full.replace(2, Interval(*rows)))) for rows in ((0, 1), (7, 8)))
    inner = tuple(cut(graph, "conv2d", 2, {1: (1, 7)})[1].items())

    made = checked(
        plan(
            graph,
            Stage(
                name="a", kind="by hand", operators=("conv2d",), shards=(Shard(0, borders), Shard(1, inner))
            ),
            stage("b", ["conv2d_1"], whole(graph, "conv2d_1", 1)),
        )
    )

    assert between_devices(made.programs) == [
        Transfer(0, 1, "conv2d", "[0:1, 0:1, 0:1, 0:4]", 16),
        Transfer(0, 1, "conv2d", "[0:1, 0:1, 7:8, 0:4]", 16),
    ]
    (compute,) = (item for item in made.programs[0].instructions if isinstance(item, Compute))
    assert [kernel.outputs for kernel in compute.kernels] == [(("conv2d", full),)]
    assert [made.programs[0].buffers[buffer].num_bytes for _, buffer in compute.outputs] == [16, 16]


def test_re_partition_from_rows_to_columns() -> None:
    graph = mlp()
    halves = {0: (0, 3), 1: (3, 6)}

    made = checked(
        plan(
            graph,
            stage("rows", ["linear", "relu"], cut(graph, "relu", 0, {0: (0, 1), 1: (1, 2)})),
            stage("turn", [], cut(graph, "relu", 1, halves)),
            stage("sum", ["linear_1"], summed(graph, "linear_1", halves)),
            stage("last", ["relu_1"], whole(graph, "relu_1", 0)),
        )
    )

    assert between_devices(made.programs) == [
        Transfer(1, 0, "relu", "[1:2, 0:3]", 12),
        Transfer(0, 1, "relu", "[0:1, 3:6]", 12),
        Transfer(1, 0, "linear_1", "[0:2, 0:4]", 32),
    ]


def test_idle_devices_have_no_program() -> None:
    graph = convs(3)

    made = checked(plan(graph, stage("a", ["conv2d"], whole(graph, "conv2d", 2))))

    assert sorted(made.programs) == [CLIENT, 2]
    assert made.devices == (2,)


def test_a_pipeline_hands_over_and_nothing_else() -> None:
    graph = convs(3, 3, 3)
    names = ["conv2d", "conv2d_1", "conv2d_2"]

    made = checked(
        plan(graph, *(stage(name, [name], whole(graph, name, rank)) for rank, name in enumerate(names)))
    )

    path = [(item.source, item.peer) for item in transfers(made.programs)]
    assert path == [(CLIENT, 0), (0, 1), (1, 2), (2, CLIENT)]


def _link(bandwidth_bytes_per_s: float) -> Link:
    return Link(bandwidth_bytes_per_s=bandwidth_bytes_per_s, latency_s=1e-3)


def test_an_answer_that_several_devices_hold_comes_once_from_the_nearest() -> None:
    graph = convs(3)
    cluster = Cluster(devices=Cluster.local([1.0] * 3).devices, network=_link(1e6), source="device2")

    made = checked(plan(graph, stage("a", ["conv2d"], whole(graph, "conv2d", 0, 1, 2)), cluster=cluster))

    answers = [item for item in transfers(made.programs) if item.peer == CLIENT]
    assert [(item.source, item.num_bytes) for item in answers] == [(2, 128)]


def test_of_several_owners_the_one_with_the_fastest_link_sends() -> None:
    graph = convs(3, 3)
    devices = Cluster.local([1.0] * 3).devices
    fast = ("device1", "device2", _link(1e8))
    cluster = Cluster(devices=devices, network=_link(1e6), links=(fast,))

    made = checked(
        plan(
            graph,
            stage("copies", ["conv2d"], whole(graph, "conv2d", 0, 1)),
            stage("last", ["conv2d_1"], whole(graph, "conv2d_1", 2)),
            cluster=cluster,
        )
    )

    assert [(item.source, item.peer) for item in between_devices(made.programs)] == [(1, 2)]


def test_what_has_arrived_is_not_sent_again() -> None:
    graph = fork()

    made = checked(
        plan(
            graph,
            stage("a", ["relu"], whole(graph, "relu", 0)),
            stage("b", ["sin"], whole(graph, "sin", 1)),
            stage("c", ["cos"], whole(graph, "cos", 1)),
        )
    )

    assert between_devices(made.programs) == [Transfer(0, 1, "relu", "[0:4]", 16)]


def test_only_what_is_missing_is_sent() -> None:
    graph = fork()

    made = checked(
        plan(
            graph,
            stage("a", ["relu"], whole(graph, "relu", 0)),
            stage("b", ["sin"], cut(graph, "sin", 0, {0: (0, 1), 1: (1, 4)})),
            stage("c", ["cos"], whole(graph, "cos", 1)),
        )
    )

    assert [item.region for item in between_devices(made.programs)] == ["[1:4]", "[0:1]"]


def test_a_frame_leaves_as_soon_as_its_owner_has_it() -> None:
    """Stage b runs on device 0 after stage a; what stage c needs of a does not wait for b."""
    graph = fork()

    made = plan(
        graph,
        stage("a", ["relu"], whole(graph, "relu", 0)),
        stage("b", ["sin"], whole(graph, "sin", 0)),
        stage("c", ["cos"], whole(graph, "cos", 1)),
    )

    kinds = [type(item) for item in made.programs[0].instructions if not isinstance(item, Free)]
    assert kinds == [Receive, Compute, Send, Compute, Send]


def test_buffers_are_freed_after_their_last_use() -> None:
    graph = convs(3, 3)

    made = plan(
        graph,
        stage("a", ["conv2d"], whole(graph, "conv2d", 0)),
        stage("b", ["conv2d_1"], whole(graph, "conv2d_1", 0)),
    )

    program = made.programs[0]
    # Input and first result are alive together, then both results; 8 * 4 floats each.
    assert program.peak_bytes == 2 * 128
    assert [item.buffers for item in program.instructions if isinstance(item, Free)] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_need_that_nobody_covers_is_an_error(missing: int) -> None:
    graph = convs(3, 3)
    rows = {rank: bounds for rank, bounds in _ROWS.items() if rank != missing}
    start, stop = _ROWS[missing]

    made = plan(
        graph,
        stage("a", ["conv2d"], cut(graph, "conv2d", 2, rows)),
        stage("b", ["conv2d_1"], whole(graph, "conv2d_1", 0)),
    )

    with pytest.raises(InvalidPlanError, match=rf"'b' needs .*{start}:{stop}.* which no device owns"):
        _ = made.programs
