"""Local search: which figure its changes are compared by."""

from __future__ import annotations

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.planner import plan
from edgeflow.planner.search.dynamic import Choice, Search
from tests.unit.planner.graphs import graph


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
