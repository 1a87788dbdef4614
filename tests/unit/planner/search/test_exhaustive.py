"""Exhaustive search refuses spaces that are too large."""

from __future__ import annotations

import pytest
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError
from edgeflow.planner import plan
from tests.unit.planner.graphs import captured


def test_brute_force_refuses_more_plans_than_a_float_holds() -> None:
    layers = [nn.Conv2d(2, 2, 1) for _ in range(40)]  # 20 stretches, two each: at least (2**64 - 1)**20 plans

    with pytest.raises(InfeasiblePlanError, match=r"20 stretches .* at least 1e\+300 plans"):
        plan(captured(nn.Sequential(*layers), 1, 2, 4, 4), Cluster.local([1.0] * 64), "brute_force")
