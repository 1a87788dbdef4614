"""Matrix products: column-parallel is a region, row-parallel a contraction."""

from __future__ import annotations

from edgeflow.sharding.region import Interval
from tests.unit.sharding.rules.operators import argument, box, cut_of, targets

LINEAR = {"x": (5, 8), "w": (12, 8), "b": (12,), "y": (5, 12)}


def test_columns_read_their_rows_of_the_weight() -> None:
    made = cut_of("aten.linear.default", LINEAR, box((0, 5), (3, 6)), input="x", weight="w", bias="b")

    assert made.needs == {"x": box((0, 5), (0, 8)), "w": box((3, 6), (0, 8)), "b": box((3, 6))}
    assert made.flops == 2 * 5 * 3 * 8


def test_only_the_first_interval_adds_the_bias() -> None:
    whole = box((0, 5), (0, 12))
    later = cut_of("aten.linear.default", LINEAR, whole, Interval(4, 8), input="x", weight="w", bias="b")

    assert later.needs == {"x": box((0, 5), (4, 8)), "w": box((0, 12), (4, 8))}
    assert argument(later, "bias") is None


def test_a_later_part_of_addmm_is_a_scaled_product() -> None:
    shapes = {"c": (3,), "a": (2, 4), "b": (4, 3), "y": (2, 3)}
    made = cut_of(
        "aten.addmm.default", shapes, box((0, 2), (0, 3)), Interval(2, 4),
        self="c", mat1="a", mat2="b", beta=1, alpha=2,
    )  # fmt: skip

    assert targets(made) == ["matmul", "mul"]
    assert "c" not in made.needs
