"""Transfers between ranks that have and ranks that need, by hand."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel
from edgeflow.plan import Piece
from edgeflow.plan.program import CLIENT
from edgeflow.planner.estimates.network import Network
from edgeflow.sharding.region import Interval, Region

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
