"""The decision: its ways, programs, fingerprint and devices follow from five fields, each found once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeflow.cluster.cluster import Cluster
from edgeflow.plan import Decision, Stage
from edgeflow.plan.program import CLIENT
from tests.unit.plan import tiny
from tests.unit.plan.tiny import mlp, stage, whole


def alone(rank: int) -> Stage:
    graph = mlp()
    return stage("all", [op.name for op in graph.operators], whole(graph, "relu_1", rank))


@pytest.fixture
def one() -> Decision:
    return Decision(graph=mlp(), cluster=Cluster.local([1.0, 0.5]), stages=(alone(0),))


def test_without_replicas_a_decision_is_its_only_way(one: Decision) -> None:
    assert one.ways == (one,)
    assert set(one.programs) == {CLIENT, 0}
    assert one.programs is one.programs


def test_each_way_is_complete_and_the_first_one_shares_the_programs(one: Decision) -> None:
    both = replace(one, replicas=((alone(1),),))

    first, second = both.ways

    assert both.programs is first.programs
    assert first.programs == one.programs
    assert set(second.programs) == {CLIENT, 1}
    assert [way.replicas for way in both.ways] == [(), ()]
    assert (both.devices, first.devices, second.devices) == ((0, 1), (0,), (1,))


def test_the_fingerprint_follows_every_field(one: Decision) -> None:
    others = [
        replace(one, cluster=Cluster.local([1.0, 1.0])),
        replace(one, stages=(alone(1),)),
        replace(one, replicas=((alone(1),),)),
        replace(one, activations="int8"),
        replace(one, graph=tiny.convs(3)),
    ]

    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert replace(one).fingerprint == one.fingerprint
