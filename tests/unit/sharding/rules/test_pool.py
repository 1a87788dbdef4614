"""Max and average pools."""

from __future__ import annotations

from edgeflow.graph.ir import Symbol
from tests.unit.sharding.rules.operators import argument, box, cut_of, targets

SHAPES = {"x": (1, 2, 8), "y": (1, 2, 8)}


def test_the_border_of_a_max_pool_is_padded_on_one_side_with_minus_infinity() -> None:
    made = cut_of(
        "aten.max_pool1d.default",
        SHAPES,
        box((0, 1), (0, 2), (0, 4)),
        self="x",
        kernel_size=(3,),
        stride=(1,),
        padding=(1,),
        dilation=(1,),
        ceil_mode=False,
    )

    assert made.needs == {"x": box((0, 1), (0, 2), (0, 5))}
    assert targets(made) == ["constant_pad_nd", "max_pool1d"]
    assert argument(made, "pad", step=0) == (1, 0)
    assert argument(made, "value", step=0) == Symbol("float", "-inf")


def test_an_average_that_does_not_count_padding_is_corrected_at_the_border() -> None:
    made = cut_of(
        "aten.avg_pool1d.default",
        SHAPES,
        box((0, 1), (0, 2), (0, 2)),
        self="x",
        kernel_size=(3,),
        stride=(1,),
        padding=(1,),
        ceil_mode=False,
        count_include_pad=False,
    )

    assert targets(made)[-1] == "mul"
    assert argument(made, "other").values == (3 / 2, 1.0)
