"""Levels: how often a stretch synchronises before each operator."""

from __future__ import annotations

from torch import nn

from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.layouts.levels import levels
from edgeflow.planner.layouts.partition import rows_partition
from edgeflow.planner.layouts.rows import owned_rows
from tests.unit.planner.graphs import captured


def test_operators_with_halos_wait_and_others_do_not() -> None:
    layers = [nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)]
    found = analysis_of(captured(nn.Sequential(*layers), 1, 2, 8, 8))
    operators = found.graph.operators
    partition = rows_partition(found.labels, (0, 1), (1.0, 1.0))
    owned = owned_rows(found, operators, found.labels, partition, (0, 1), rest=0)

    assert list(levels(found, operators, owned).values()) == [0, 0, 0, 1]
    # Recomputed halos are not waited for.
    assert set(levels(found, operators, owned, recomputed=found.labels).values()) == {0}


def test_operators_that_share_a_stage_have_one_level() -> None:
    layers = [nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)]
    found = analysis_of(captured(nn.Sequential(*layers), 1, 2, 8, 8))
    operators = found.graph.operators
    partition = rows_partition(found.labels, (0, 1), (1.0, 1.0))
    owned = owned_rows(found, operators, found.labels, partition, (0, 1), rest=0)
    last = tuple(op.name for op in operators[1:])

    assert list(levels(found, operators, owned).values()) == [0, 1, 2]
    assert list(levels(found, operators, owned, units=dict.fromkeys(last, last)).values()) == [0, 1, 1]
