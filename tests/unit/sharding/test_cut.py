"""What single cuts read and cost, written out; that they are exact is shown in ``tests/numerics``."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import ModelGraph, Operator, Structure, TensorRef, TensorSpec, Value
from edgeflow.sharding.cut import Cut, Literal, Slice, Step
from edgeflow.sharding.cutter import cutter_of
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size, cut, rule_of
from edgeflow.sharding.rules.base import BARRIER, pairs

Shapes = dict[str, tuple[int, ...]]


def operator(target: str, **arguments: Value) -> Operator:
    return Operator(name="op", target=target, arguments=tuple(arguments.items()), outputs=("y",))


def specs_of(shapes: Shapes, **dtypes: str) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(shape=shape, dtype=dtypes.get(name, "float32")) for name, shape in shapes.items()
    }


def conv(*, groups: int = 1, bias: bool = True) -> Operator:
    return operator(
        "aten.conv2d.default",
        input=TensorRef("x"),
        weight=TensorRef("w"),
        bias=TensorRef("b") if bias else None,
        stride=(1, 1),
        padding=(1, 1),
        dilation=(1, 1),
        groups=groups,
    )


CONV = specs_of({"x": (1, 4, 8, 8), "w": (6, 4, 3, 3), "b": (6,), "y": (1, 6, 8, 8)})


def argument(made: Cut, name: str, step: int = -1) -> Any:
    return dict(made.steps[step].arguments)[name]


def test_rows_of_a_convolution_need_a_halo_of_one_row() -> None:
    made = cut(conv(), CONV, Region.of([(0, 1), (0, 6), (2, 4), (0, 8)]))

    assert made.needs["x"] == Region.of([(0, 1), (0, 4), (1, 5), (0, 8)])
    assert made.needs["w"] == Region.full((6, 4, 3, 3))
    assert made.flops == 2 * (6 * 2 * 8) * (4 * 3 * 3)


def test_output_channels_need_their_own_weights_only() -> None:
    made = cut(conv(), CONV, Region.of([(0, 1), (2, 5), (0, 8), (0, 8)]))

    assert made.needs["w"] == Region.of([(2, 5), (0, 4), (0, 3), (0, 3)])
    assert made.needs["b"] == Region.of([(2, 5)])
    assert made.needs["x"] == Region.full((1, 4, 8, 8))


def test_a_contraction_reads_its_input_channels_and_only_the_first_adds_the_bias() -> None:
    whole = Region.full((1, 6, 8, 8))
    first, second = (cut(conv(), CONV, whole, Interval(*part)) for part in ((0, 1), (1, 4)))

    assert contraction_size(conv(), CONV) == 4
    assert first.needs.keys() == {"x", "w", "b"}
    assert second.needs == {
        "x": Region.of([(0, 1), (1, 4), (0, 8), (0, 8)]),
        "w": Region.of([(0, 6), (1, 4), (0, 3), (0, 3)]),
    }
    assert first.flops + second.flops == cut(conv(), CONV, whole).flops


def test_channels_of_two_groups_are_widened_to_both_and_those_of_one_are_not() -> None:
    specs = specs_of({"x": (1, 4, 8, 8), "w": (6, 2, 3, 3), "b": (6,), "y": (1, 6, 8, 8)})
    across = cut(conv(groups=2), specs, Region.of([(0, 1), (2, 4), (0, 8), (0, 8)]))
    inside = cut(conv(groups=2), specs, Region.of([(0, 1), (3, 5), (0, 8), (0, 8)]))

    assert across.region[1] == Interval(0, 6)
    assert inside.region[1] == Interval(3, 5)
    assert inside.needs["x"][1] == Interval(2, 4)
    assert argument(inside, "groups") == 1
    assert contraction_size(conv(groups=2), specs) is None


def attention(**more: Value) -> Operator:
    arguments: dict[str, Value] = {
        "query": TensorRef("q"),
        "key": TensorRef("k"),
        "value": TensorRef("v"),
        "attn_mask": None,
        "dropout_p": 0.0,
        "is_causal": False,
        "scale": None,
        "enable_gqa": False,
    }
    return operator("aten.scaled_dot_product_attention.default", **{**arguments, **more})


def test_causal_queries_read_no_key_that_they_may_not_see() -> None:
    specs = specs_of(dict.fromkeys("qkvy", (1, 2, 8, 4)))
    made = cut(attention(is_causal=True), specs, Region.of([(0, 1), (0, 2), (2, 5), (0, 4)]))

    assert made.needs["q"][2] == Interval(2, 5)
    assert made.needs["k"][2] == made.needs["v"][2] == Interval(0, 5)
    assert argument(made, "is_causal") is False
    assert argument(made, "diagonal", step=1) == 2


def test_heads_inside_a_group_share_one_key_value_head() -> None:
    """Grouped queries are cut between any two heads; only across groups are whole ones made."""
    specs = specs_of({"q": (1, 8, 3, 4), "k": (1, 2, 3, 4), "v": (1, 2, 3, 4), "y": (1, 8, 3, 4)})
    op = attention(enable_gqa=True)
    inside = cut(op, specs, Region.of([(0, 1), (5, 7), (0, 3), (0, 4)]))
    across = cut(op, specs, Region.of([(0, 1), (3, 5), (0, 3), (0, 4)]))

    assert inside.region[1] == Interval(5, 7)
    assert inside.needs["k"][1] == Interval(1, 2)
    assert across.region[1] == Interval(0, 8)


def test_a_join_reads_only_the_tensors_that_it_takes_from() -> None:
    specs = specs_of({"a": (2, 3), "b": (2, 4), "c": (2, 5), "y": (2, 12)})
    op = operator("aten.cat.default", tensors=tuple(map(TensorRef, "abc")), dim=1)

    assert cut(op, specs, Region.of([(0, 1), (2, 5)])).needs == {
        "a": Region.of([(0, 1), (2, 3)]),
        "b": Region.of([(0, 1), (0, 2)]),
    }


def test_a_join_of_mixed_dtypes_has_the_dtype_of_the_whole() -> None:
    """Alone, the part of integers would come out as integers."""
    specs = specs_of({"a": (3,), "b": (3,), "y": (6,)}, b="int64")
    op = operator("aten.cat.default", tensors=(TensorRef("a"), TensorRef("b")), dim=0)

    assert len(cut(op, specs, Region.of([(0, 5)])).steps) == 1
    assert cut(op, specs, Region.of([(3, 5)])).steps[-1].target == "aten._to_copy.default"


def test_a_view_is_widened_to_a_box_of_both_shapes() -> None:
    """Heads of an attention are cut freely, elements of a flattened map by whole channels."""
    split = operator("aten.view.default", self=TensorRef("x"), size=(2, 3, 4, 5))
    heads = specs_of({"x": (2, 3, 20), "y": (2, 3, 4, 5)})
    flatten = operator("aten.view.default", self=TensorRef("x"), size=(1, 48))
    flat = specs_of({"x": (1, 3, 4, 4), "y": (1, 48)})

    made = cut(split, heads, Region.of([(0, 1), (1, 3), (2, 3), (0, 5)]))
    assert made.needs["x"] == Region.of([(0, 1), (1, 3), (10, 15)])
    widened = cut(flatten, flat, Region.of([(0, 1), (17, 31)]))
    assert widened.region == Region.of([(0, 1), (16, 32)])
    assert widened.needs["x"] == Region.of([(0, 1), (1, 2), (0, 4), (0, 4)])


def test_an_average_at_the_border_is_divided_as_torch_divides() -> None:
    op = operator(
        "aten.avg_pool2d.default",
        self=TensorRef("x"),
        kernel_size=(2, 2),
        stride=(),
        padding=(0, 0),
        ceil_mode=True,
        count_include_pad=True,
        divisor_override=None,
    )
    specs = specs_of({"x": (1, 1, 3, 4), "y": (1, 1, 2, 2)})
    made = cut(op, specs, Region.full((1, 1, 2, 2)))

    assert argument(made, "other") == Literal((2, 2), (1.0, 1.0, 2.0, 2.0))
    assert [step.target for step in cut(op, specs, Region.of([(0, 1), (0, 1), (0, 1), (0, 2)])).steps] == [
        "aten.avg_pool2d.default"
    ]


def test_an_operator_of_several_outputs_is_made_whole() -> None:
    arguments = (("self", TensorRef("x")), ("dim", -1), ("keepdim", False))
    op = Operator(name="op", target="aten.mode.default", arguments=arguments, outputs=("", "y"))
    specs = specs_of({"x": (4, 2, 8), "y": (4, 2)})

    assert rule_of(op) is BARRIER
    made = cut(op, specs, Region.of([(1, 2), (0, 1)]))
    assert made.region == Region.full((4, 2))
    assert made.needs == {"x": Region.full((4, 2, 8))}


def test_outputs_of_one_shape_are_cut_alike() -> None:
    arguments = (("self", TensorRef("x")), ("k", 2), ("dim", -1), ("largest", True), ("sorted", True))
    op = Operator(name="op", target="aten.topk.default", arguments=arguments, outputs=("", "y"))
    specs = specs_of({"x": (4, 8), "y": (4, 2)})

    made = cut(op, specs, Region.of([(1, 2), (0, 1)]))
    assert made.region == Region.of([(1, 2), (0, 2)])
    assert made.needs == {"x": Region.of([(1, 2), (0, 8)])}


def test_partial_sums_are_refused_where_they_make_no_sense() -> None:
    specs = specs_of({"x": (4, 8), "y": (4, 8)})
    relu = operator("aten.relu.default", self=TensorRef("x"))
    whole = Region.full((1, 6, 8, 8))

    with pytest.raises(InvalidPlanError, match="cannot make partial sums"):
        cut(relu, specs, Region.full((4, 8)), Interval(0, 1))
    with pytest.raises(InvalidPlanError, match=r"cannot make partial sums over \[2:2\] of 4 elements"):
        cut(conv(), CONV, whole, Interval(2, 2))
    with pytest.raises(InvalidPlanError, match=r"partial sums over \[2:5\] of 4 elements"):
        cut(conv(), CONV, whole, Interval(2, 5))


def test_needs_are_hulls_and_slices_stand_in_order() -> None:
    parts = (
        Slice("x", Region.of([(0, 2)])),
        Slice("x", Region.of([(5, 6)])),
        Slice("z", Region.of([(0, 1)])),
    )
    made = Cut(
        steps=(Step("aten.cat.default", (("tensors", parts), ("dim", 0))),),
        region=Region.of([(0, 4)]),
        flops=0,
    )

    assert made.slices == parts
    assert made.needs == {"x": Region.of([(0, 6)]), "z": Region.of([(0, 1)])}


def test_lists_of_one_number_stand_for_all_dims() -> None:
    assert pairs((3,), 2) == (3, 3)
    assert pairs((3, 4), 2) == (3, 4)
    assert pairs(5, 3) == (5, 5, 5)


def graph() -> ModelGraph:
    return ModelGraph(
        name="relu",
        operators=(operator("aten.relu.default", self=TensorRef("x")),),
        specs=specs_of({"x": (4, 8), "y": (4, 8)}),
        inputs=("x",),
        outputs=("y",),
        weights={},
        input_structure=Structure(kind="tuple"),
        output_structure=Structure(kind="tensor"),
    )


def test_a_cutter_remembers_its_answers_as_long_as_its_graph_lives() -> None:
    owner = graph()
    cutter = cutter_of(owner)
    (op,) = owner.operators
    region = Region.of([(0, 2), (0, 8)])

    assert cutter_of(owner) is cutter
    assert cutter.cut(op, region) is cutter.cut(op, Region.of([(0, 2), (0, 8)]))
    assert cutter_of(graph()) is not cutter

    watched = weakref.ref(owner)
    del owner
    gc.collect()
    assert watched() is None
