"""Estimates of the search: transfers by hand, and one estimate for all stretches of one structure."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan import Piece
from edgeflow.plan.program import CLIENT
from edgeflow.planner import plan
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.estimates.estimator import Estimator
from edgeflow.planner.estimates.network import Network
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.dynamic import Choice, Search
from edgeflow.sharding.region import Interval, Region
from tests.unit.planner.graphs import graph

MS = 1e-3
#: 1 MB/s and 10 ms on every link; a frame costs 1 ms of a device's time on each side.
CLUSTER = Cluster.local([1.0] * 3, bandwidth=1e6, latency=10 * MS)
COST = CostModel(cluster=CLUSTER, message_overhead_s=1 * MS)
#: 1,000 floats: 4 ms.
WHOLE = Region.full((1000,))
HALF = Region.of([(0, 500)])
#: 4 us.
TINY = Region.of([(0, 1)])


def seconds(needs: dict[int, Region], owned: dict[int, Piece] | None) -> float:
    return Network(COST, {"x": 4}).moved({"x": needs}, {} if owned is None else {"x": owned})[0]


@pytest.mark.parametrize(
    ("needs", "owned", "expected_s"),
    [
        ({0: WHOLE}, {0: Piece(WHOLE)}, 0.0),
        ({1: WHOLE}, {0: Piece(WHOLE)}, (10 + 4) * MS),
        ({1: HALF}, {0: Piece(WHOLE)}, (10 + 2) * MS),
        ({1: WHOLE}, {0: Piece(WHOLE), 1: Piece(HALF)}, (10 + 2) * MS),
        ({1: WHOLE}, {0: Piece(WHOLE), 2: Piece(WHOLE)}, (10 + 4) * MS),  # from one of them
        ({1: WHOLE, 2: HALF}, {0: Piece(WHOLE)}, (10 + 4 + 2) * MS),  # the sender's interface is the busiest
        ({1: WHOLE}, {0: Piece(WHOLE, Interval(0, 1)), 1: Piece(WHOLE, Interval(1, 2))}, (10 + 4) * MS),
        ({1: WHOLE}, {0: Piece(WHOLE, Interval(0, 1)), 2: Piece(WHOLE, Interval(1, 2))}, (10 + 8) * MS),
        ({1: WHOLE}, None, (10 + 4) * MS),  # an input comes from the client, on device 0's host
        ({1: TINY, 2: TINY}, {0: Piece(WHOLE)}, (10 + 2) * MS),  # the sender's processor is the busiest
        ({CLIENT: WHOLE}, {1: Piece(WHOLE)}, (10 + 4) * MS),
    ],
)
def test_transfers_by_hand(
    needs: dict[int, Region], owned: dict[int, Piece] | None, expected_s: float
) -> None:
    assert seconds(needs, owned) == pytest.approx(expected_s)


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


def test_local_search_judges_by_seconds_for_latency_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Choice] = []

    def one_second(search: Search, choice: Choice) -> float:
        asked.append(choice)
        return 1.0

    monkeypatch.setattr(Search, "seconds", one_second)
    cluster = Cluster.local([0.1, 0.1], bandwidth="10 Gbit/s", latency="0.05 ms")
    plan(graph("tiny-vit"), cluster, "auto", "energy")
    assert not asked
    plan(graph("tiny-vit"), cluster, "auto", "latency")
    assert asked
