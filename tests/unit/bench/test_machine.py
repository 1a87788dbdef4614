"""Which device runs on which core."""

from __future__ import annotations

import pytest

from edgeflow.bench.machine import place
from edgeflow.errors import ConfigError


@pytest.mark.parametrize(
    ("speeds", "cores", "expected"),
    [
        ([1.0, 1.0], [2, 5], (2, 5)),
        ([0.5, 1.0, 0.5], [0, 1], (0, 1, 0)),
        ([0.3, 0.3, 0.4, 1.0], [0, 1], (0, 0, 0, 1)),
        ([0.6, 0.6, 0.4], [0, 1], (0, 1, 0)),
    ],
)
def test_speeds_on_a_core_add_up_to_at_most_one(
    speeds: list[float], cores: list[int], expected: tuple[int, ...]
) -> None:
    assert place(speeds, cores) == expected


def test_too_few_cores_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"more than the 2 cores here"):
        place([0.6, 0.6, 0.6], [0, 1])
