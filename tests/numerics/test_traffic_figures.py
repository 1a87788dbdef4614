"""Traffic and repeated work of VGG-16 in equal strips, beside a table worked out from layer sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulations.traffic.strips import (
    PATTERNS,
    TABLE,
    fused_between_pools,
    halos,
    one_fused_block,
    repeated,
    sent_bytes,
    vgg,
)

COUNTS = (2, 4, 6, 8)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("pattern", "digits"),
    [("gathered around every convolution", 1), ("fused between pools", 1), ("one fused block", 2)],
)
def test_bytes_are_those_of_the_table(pattern: str, digits: int, count: int) -> None:
    plan = PATTERNS[pattern](count)

    assert round(sum(sent_bytes(plan).values()) / 1e6, digits) == TABLE[pattern][count][0]


@pytest.mark.parametrize("count", COUNTS)
def test_halos_between_neighbours(count: int) -> None:
    """Both ends are counted as the table has them: the image without halos, and 1/N of 7 rows for a strip."""
    graph, plan = vgg(), halos(count)

    sent = sent_bytes(plan)
    ends = (*graph.inputs, *graph.outputs)
    between = sum(size for tensor, size in sent.items() if tensor not in ends)
    ideal = sum(graph.specs[name].num_bytes * (1 - 1 / count) for name in ends)

    assert len(plan.stages) == 13
    assert round((between + ideal) / 1e6, 2) == TABLE["halos between neighbours"][count][0]
    assert sum(sent.values()) == pytest.approx(between + ideal, rel=0.01)
    assert repeated(plan) == 0


@pytest.mark.parametrize("count", COUNTS)
def test_gathering_around_every_convolution_repeats_nothing(count: int) -> None:
    assert repeated(PATTERNS["gathered around every convolution"](count)) == 0


@pytest.mark.parametrize(
    ("make", "count", "num_stages", "digits", "expected"),
    [
        *((fused_between_pools, count, 2 * 5, 3, expected) for count, expected in ((2, 0.040), (4, 0.120))),
        # The table has 0.273 for 8: it counts halos of the strip of 7 rows that is empty.
        *((fused_between_pools, count, 2 * 5, 3, expected) for count, expected in ((6, 0.199), (8, 0.266))),
        *((one_fused_block, count, 1, 2, TABLE["one fused block"][count][1]) for count in COUNTS),
    ],
)
def test_fused_blocks_repeat_halos(
    make: Callable, count: int, num_stages: int, digits: int, expected: float
) -> None:
    plan = make(count)

    assert len(plan.stages) == num_stages
    assert round(repeated(plan), digits) == expected
