"""What fused tiles cost and save on the first layers of YOLOv2 at 608x608, as in the paper on DeepThings."""

from __future__ import annotations

import pytest

from edgeflow.planner.layouts.tiles import edges_of, fusable
from simulations.deepthings.fusion import length, memory_mib, plan_of, task, work_share


def test_tiles_take_a_third_of_the_memory() -> None:
    """The paper: about 70 MB, less than 23 MB, more than 68 % saved.

    Summed from rounded parts these are 69.45 and 22.12 MiB, and 68.15 %.
    """
    whole_maps, filters = memory_mib((1, 1))
    tile_maps, tile_filters = memory_mib((5, 5))

    assert (round(whole_maps, 2), round(tile_maps, 2)) == (56.41, 9.08)
    assert round(filters, 2) == round(tile_filters, 2) == 13.04
    assert round(whole_maps + filters, 2) == 69.45
    assert tile_maps + tile_filters == pytest.approx(22.12, abs=0.01)
    assert 1 - (tile_maps + tile_filters) / (whole_maps + filters) == pytest.approx(0.6815, abs=2e-4)


@pytest.mark.parametrize(
    ("num_layers", "size", "reuse", "expected"),
    [
        (16, 5, False, 2.20),
        (16, 5, True, 1.28),
        (16, 3, False, 1.53),
        (16, 3, True, 1.07),
        (8, 5, False, 1.12),
        (8, 5, True, 1.01),
    ],
)
def test_borders_are_made_again_or_reused(num_layers: int, size: int, reuse: bool, expected: float) -> None:
    """FLOPs of the fused convolutions over those of whole maps."""
    assert length(num_layers) in fusable(task().analysis, edges_of(task().analysis))

    assert round(work_share((size, size), num_layers, reuse=reuse), 2) == expected


def test_reused_borders_hardly_cost_memory() -> None:
    """Each device keeps thin borders, not whole maps, for its neighbours."""
    peaks = {}
    for reuse in (False, True):
        programs = plan_of((5, 5), reuse=reuse).programs
        peaks[reuse] = max(program.peak_bytes for rank, program in programs.items() if rank >= 0)

    assert peaks[True] < 1.05 * peaks[False]
