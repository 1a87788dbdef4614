"""Gather and scatter: indexed dims are read whole, all others are cut."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import box, cut_of


def test_tokens_of_an_embedding_read_the_whole_table() -> None:
    shapes = {"w": (100, 16), "i": (2, 7), "y": (2, 7, 16)}
    made = cut_of("aten.embedding.default", shapes, box((0, 2), (3, 5), (0, 8)), weight="w", indices="i")

    assert made.needs == {"w": box((0, 100), (0, 8)), "i": box((0, 2), (3, 5))}


def test_a_gather_is_cut_along_the_other_dims() -> None:
    shapes = {"x": (4, 9), "i": (4, 3), "y": (4, 3)}
    made = cut_of("aten.gather.default", shapes, box((1, 3), (2, 3)), self="x", dim=1, index="i")

    assert made.needs == {"x": box((1, 3), (0, 9)), "i": box((1, 3), (2, 3))}


def test_a_scatter_makes_its_dim_whole() -> None:
    shapes = {"x": (4, 9), "i": (4, 3), "s": (4, 3), "y": (4, 9)}
    made = cut_of("aten.scatter.src", shapes, box((1, 3), (2, 4)), self="x", dim=1, index="i", src="s")

    assert made.region == box((1, 3), (0, 9))
    assert made.needs["s"] == box((1, 3), (0, 3))
