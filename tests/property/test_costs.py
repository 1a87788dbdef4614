"""Random networks under one plan: simulator and prediction agree, and neither beats an idle network."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.cluster import Cluster, Device, Link, Segment
from edgeflow.cost import CostModel, predict
from edgeflow.plan import Plan
from edgeflow.plan.program import Send
from edgeflow.simulator import simulate
from tests.unit.plan.tiny import convs, cut, plan, stage, whole

_NAMES = ["conv2d", "conv2d_1"]
_HEIGHT = 12


def random_network(seed: int) -> Cluster:
    """Four devices on any mixture of interfaces, media and uplinks, with links that differ.

    No two latencies are equal: of frames that reach a resource at the very same time either may go first.
    """
    rng = Random(seed)
    names = [f"d{rank}" for rank in range(4)]

    def rate() -> float:
        return float(10 ** rng.uniform(4, 7))

    def maybe(value: float) -> float | None:
        return value if rng.random() < 0.4 else None

    devices = tuple(
        Device(
            name=name,
            flops_per_second=10 ** rng.uniform(5, 8),
            memory_bytes=1 << 30,
            power_idle_w=rng.uniform(0, 5),
            power_compute_w=rng.uniform(0, 20),
            joules_per_byte_sent=rng.uniform(0, 1e-6),
            upload_bytes_per_s=maybe(rate()),
            download_bytes_per_s=maybe(rate()),
        )
        for name in names
    )
    segments = []
    for kind in ("medium", "uplink"):
        members = rng.sample(names, rng.randint(0, 4))
        if members:
            segments.append(
                Segment(
                    name=kind,
                    kind=kind,  # type: ignore[arg-type]
                    members=tuple(members),
                    bandwidth_bytes_per_s=rate(),
                    latency_s=rng.uniform(0, 2e-3),
                    is_relayed=kind == "medium" and rng.random() < 0.5,
                )
            )
    links = tuple(
        (a, b, Link(bandwidth_bytes_per_s=rate(), latency_s=rng.uniform(0, 1e-3)))
        for a in names
        for b in names
        if a != b and rng.random() < 0.8
    )
    return Cluster(
        devices=devices,
        network=Link(bandwidth_bytes_per_s=rate(), latency_s=rng.uniform(0, 5e-4)),
        links=links,
        segments=tuple(segments),
        source=rng.choice(names),
    )


def rows_on(cluster: Cluster) -> Plan:
    graph = convs(3, 3, height=_HEIGHT)
    thirds = {rank: (3 * rank, 3 * rank + 3) for rank in range(4)}
    return plan(
        graph,
        stage("first", _NAMES[:1], cut(graph, _NAMES[0], 2, thirds)),
        stage("second", _NAMES[1:], whole(graph, _NAMES[1], 2)),
        cluster=cluster,
    )


@pytest.mark.parametrize("seed", range(60))
def test_one_request_is_simulated_as_it_is_predicted(seed: int) -> None:
    made = rows_on(random_network(seed))

    assert simulate(made, requests=1).latency_s == pytest.approx(predict(made).latency_s, rel=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_nothing_beats_an_idle_network_and_nothing_is_negative(seed: int) -> None:
    made = rows_on(random_network(seed))

    found = predict(made)

    for rank, program in made.programs.items():
        for item in program.instructions:
            if isinstance(item, Send):
                path = made.cluster.path(rank, item.peer)
                assert found.latency_s >= path.seconds(item.num_bytes) * (1 - 1e-9)
                for hop in path.hops:
                    assert found.busy_s[hop.resource] >= hop.occupied_s(item.num_bytes) * (1 - 1e-9)
    assert min(found.busy_s.values()) >= 0
    # What one request occupies one after another cannot take longer than the request.
    assert found.period_s <= found.latency_s * (1 + 1e-9)
    assert all(item.total_j >= 0 for item in found.energy.values())
    assert found.energy_j >= found.active_energy_j


@given(seed=st.integers(0, 500), num_bytes=st.integers(0, 10**7), more=st.integers(1, 10**7))
def test_more_bytes_take_longer_on_every_path(seed: int, num_bytes: int, more: int) -> None:
    cluster = random_network(seed)
    cost = CostModel(cluster=cluster, message_s_per_byte=1e-10)

    for a in cluster.ranks:
        for b in cluster.ranks:
            path = cluster.path(a, b)
            assert 0 <= path.seconds(num_bytes) < path.seconds(num_bytes + more)
        assert 0 <= cost.message_s(a, num_bytes) < cost.message_s(a, num_bytes + more)
