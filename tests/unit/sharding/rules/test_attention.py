"""Fused attention: query positions are cut, keys are read whole; causal cases are in test_cut.py."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of


def test_a_mask_is_cut_by_queries_and_broadcasts_over_heads() -> None:
    shapes = {"q": (2, 3, 5, 4), "k": (2, 3, 7, 4), "v": (2, 3, 7, 6), "m": (2, 1, 5, 7), "y": (2, 3, 5, 6)}
    made = cut_of(
        "aten.scaled_dot_product_attention.default", shapes, box((1, 2), (1, 3), (2, 4), (0, 3)), query="q",
        key="k", value="v", attn_mask="m", dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False,
    )  # fmt: skip

    assert made.needs == {
        "q": box((1, 2), (1, 3), (2, 4), (0, 4)),
        "k": box((1, 2), (1, 3), (0, 7), (0, 4)),
        "v": box((1, 2), (1, 3), (0, 7), (0, 3)),
        "m": box((1, 2), (0, 1), (2, 4), (0, 7)),
    }
    assert argument(made, "is_causal") is False
