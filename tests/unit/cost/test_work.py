"""What a kernel is made of, by hand: whole operators and their slices."""

from __future__ import annotations

import pytest

from edgeflow.cost.work import FAMILIES, Work, work_of
from edgeflow.graph.ir import ModelGraph
from edgeflow.measure.cases import operator_graph
from edgeflow.measure.kernels import Case, kernel_of
from edgeflow.sharding.region import Interval, Region

CONV = operator_graph(
    "aten.conv2d.default",
    {"input": (1, 8, 10, 12)},
    {"weight": (16, 8, 3, 3), "bias": (16,)},
    padding=(1, 1),
    stride=(1, 2),
)
LINEAR = operator_graph("aten.linear.default", {"input": (1, 5, 32)}, {"weight": (64, 32), "bias": (64,)})

_MAP = (1, 4, 8, 8)


def work(graph: ModelGraph, *cut: tuple[int, int, int], contraction: Interval | None = None) -> Work:
    """The work of the one operator; ``cut`` holds (dim, start, stop)."""
    region = Region.full(graph.specs["result"].shape)
    for dim, start, stop in cut:
        region = region.replace(dim, Interval(start, stop))
    return work_of(kernel_of(Case(graph, "operator", region, contraction)))


def test_a_whole_convolution() -> None:
    assert work(CONV) == Work(
        family="conv",
        num_steps=2,  # even columns need no padding on the right, which is a call of its own
        flops=2 * (16 * 10 * 6) * (8 * 9),
        weight_bytes=4 * 16 * 8 * 9,
        input_bytes=4 * (8 * 10 * 12 + 16),  # the bias is an input like another
        output_bytes=4 * 16 * 10 * 6,
        inner=8 * 9,
        window=9,
        stride=2,
        groups=1,
        columns=6,
    )


def test_rows_read_all_of_the_weights() -> None:
    rows = work(CONV, (2, 1, 3))

    assert rows.weight_bytes == work(CONV).weight_bytes
    assert rows.output_bytes == 4 * 16 * 2 * 6
    assert rows.input_bytes == 4 * (8 * 4 * 12 + 16)  # rows 0 to 3


def test_output_channels_read_their_part_of_the_weights_and_the_whole_input() -> None:
    channels = work(CONV, (1, 0, 4))

    assert channels.weight_bytes == work(CONV).weight_bytes // 4
    assert channels.input_bytes == 4 * (8 * 10 * 12 + 4)
    assert channels.inner == 72


def test_a_partial_sum_has_a_shorter_inner_dim() -> None:
    partial = work(CONV, contraction=Interval(0, 2))

    assert partial.inner == 2 * 9
    assert partial.weight_bytes == work(CONV).weight_bytes // 4
    assert partial.output_bytes == work(CONV).output_bytes


def test_columns_of_a_linear_layer() -> None:
    columns = work(LINEAR, (2, 0, 16))

    assert (columns.family, columns.columns, columns.inner) == ("linear", 16, 32)
    assert columns.weight_bytes == 4 * 16 * 32
    assert columns.input_bytes == 4 * (5 * 32 + 16)


def test_keys_and_values_are_the_second_operand_of_attention() -> None:
    operand = (1, 4, 10, 8)
    graph = operator_graph(
        "aten.scaled_dot_product_attention.default", {"query": operand, "key": operand, "value": operand}
    )

    queries = work(graph, (2, 0, 5))

    assert queries.weight_bytes == 2 * 4 * 320
    assert queries.input_bytes == 4 * 160
    assert queries.num_bytes == queries.weight_bytes + queries.input_bytes + queries.output_bytes


@pytest.mark.parametrize(
    ("graph", "family"),
    [
        (
            operator_graph("aten.conv2d.default", {"input": (1, 4, 8, 8)}, {"weight": (8, 4, 1, 1)}),
            "conv_1x1",
        ),
        (
            operator_graph("aten.conv2d.default", {"input": _MAP}, {"weight": (4, 1, 3, 3)}, groups=4),
            "conv_grouped",
        ),
        (operator_graph("aten.relu.default", {"self": (2, 3)}), "pointwise"),
        (operator_graph("aten.gelu.default", {"self": (2, 3)}), "gelu"),
        (operator_graph("aten.tanh.default", {"self": (2, 3)}), "activation"),
        (operator_graph("aten.softmax.int", {"self": (2, 3)}, dim=-1), "norm"),
        (operator_graph("aten.mean.dim", {"self": (2, 3)}, dim=(1,)), "reduce"),
        (operator_graph("aten.clone.default", {"self": (2, 3)}), "copy"),
        (operator_graph("aten.view.default", {"self": (2, 3)}, size=(3, 2)), "view"),
    ],
)
def test_families(graph: ModelGraph, family: str) -> None:
    assert work(graph).family == family
    assert family in FAMILIES
