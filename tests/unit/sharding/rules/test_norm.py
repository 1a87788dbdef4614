"""Dims with statistics stay whole."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of


def test_a_layer_norm_is_cut_by_tokens_only() -> None:
    shapes = {"x": (2, 7, 16), "y": (2, 7, 16)}
    made = cut_of(
        "aten.layer_norm.default", shapes, box((0, 1), (2, 5), (0, 4)), input="x", normalized_shape=(16,)
    )

    assert made.region == box((0, 1), (2, 5), (0, 16))


def test_a_group_norm_is_cut_into_whole_groups() -> None:
    shapes = {"x": (1, 8, 4), "w": (8,), "b": (8,), "y": (1, 8, 4)}
    made = cut_of(
        "aten.group_norm.default",
        shapes,
        box((0, 1), (3, 5), (0, 2)),
        input="x",
        num_groups=4,
        weight="w",
        bias="b",
    )

    assert made.region == box((0, 1), (2, 6), (0, 4))
    assert argument(made, "num_groups") == 2
    assert made.needs["w"] == box((2, 6))


def test_a_softmax_keeps_its_dim_whole() -> None:
    made = cut_of("aten.softmax.int", {"x": (4, 6), "y": (4, 6)}, box((1, 2), (0, 3)), self="x", dim=-1)

    assert made.region == box((1, 2), (0, 6))
