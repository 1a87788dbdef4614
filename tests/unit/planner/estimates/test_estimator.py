"""Estimates: stretches of one structure share them."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.estimates.estimator import Estimator
from edgeflow.planner.layouts.layout import Layout
from tests.unit.planner.graphs import graph

COST = CostModel(cluster=Cluster.local([1.0] * 3, bandwidth=1e6, latency=0.01), message_overhead_s=1e-3)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-bert", "openworld-tiny"])
def test_stretches_of_one_structure_share_an_estimate_under_their_own_names(name: str) -> None:
    """What is remembered of one stretch is what would be found for the other."""
    analysis = analysis_of(graph(name))
    remembering = Estimator(analysis, COST)
    layouts = [
        Layout(kind="single", devices=(1,)),
        Layout(kind="rows", devices=(0, 1, 2), shares=(1.0, 0.5, 0.2)),
        Layout(kind="rows", devices=(0, 2), shares=(1.0, 1.0), exchange=False),
        Layout(kind="tensor", devices=(0, 1, 2), shares=(1.0, 0.5, 0.2)),
    ]

    for layout in layouts:
        for stretch in analysis.stretches:
            known = remembering.estimate(stretch, layout)
            fresh = Estimator(analysis, COST).estimate(stretch, layout)
            assert known.seconds == pytest.approx(fresh.seconds, rel=1e-12)
            assert known.needs == fresh.needs
            assert known.owned == fresh.owned
