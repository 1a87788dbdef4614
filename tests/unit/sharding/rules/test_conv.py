"""Convolutions: halos, channels, groups; more cases are in test_cut.py."""

from __future__ import annotations

from tests.unit.sharding.rules.operators import argument, box, cut_of, targets

SHAPES = {"x": (1, 4, 9), "w": (6, 4, 3), "y": (1, 6, 5)}
ARGUMENTS = {
    "input": "x", "weight": "w", "bias": None, "stride": (2,), "padding": (1,), "dilation": (1,), "groups": 1,
}  # fmt: skip


def test_an_inner_interval_reads_a_halo_and_pads_nothing() -> None:
    made = cut_of("aten.conv1d.default", SHAPES, box((0, 1), (0, 6), (1, 3)), **ARGUMENTS)

    assert made.needs["x"] == box((0, 1), (0, 4), (1, 6))
    assert targets(made) == ["conv1d"]
    assert argument(made, "padding") == (0,)


def test_one_sided_padding_is_made_explicit() -> None:
    made = cut_of("aten.conv1d.default", SHAPES, box((0, 1), (0, 6), (0, 2)), **ARGUMENTS)

    assert targets(made) == ["constant_pad_nd", "conv1d"]
    assert argument(made, "pad", step=0) == (1, 0)
