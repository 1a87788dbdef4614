"""Random model x random cluster x random plan x random day: exact alone, complete together."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.network import Segment
from edgeflow.cost import predict
from edgeflow.plan import Decision, Plan, Weighed
from edgeflow.simulator import Change, ClosedLoop, Poisson, Reaction, Scenario, simulate
from edgeflow.testing.random_models import random_cluster, random_model
from tests.property.plans import random_stages

_seeds = pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60))]
)


def drawn(seed: int) -> tuple[Plan, Random]:
    """Return a plan that no strategy would think of, on a network that devices share."""
    module, args = random_model(seed)
    graph = ef.capture(module, args)
    rng = Random(seed)
    cluster = shared(rng, random_cluster(seed))
    stages = random_stages(rng, graph, cluster)
    return Plan(Decision(graph=graph, cluster=cluster, stages=stages), Weighed(strategy="single")), rng


def shared(rng: Random, cluster: Cluster) -> Cluster:
    """Return the cluster with a medium or an uplink of some devices."""
    segments = []
    for name, kind in (("air", "medium"), ("rack", "uplink")):
        members = [device.name for device in cluster.devices if rng.random() < 0.5]
        if members:
            segments.append(
                Segment(
                    name=name,
                    kind=kind,  # type: ignore[arg-type]
                    members=tuple(members),
                    bandwidth_bytes_per_s=10 ** rng.uniform(5, 8),
                    latency_s=rng.choice([0.0, 1e-3]),
                    is_relayed=kind == "medium" and rng.random() < 0.5,
                )
            )
    return msgspec.structs.replace(cluster, segments=tuple(segments))


@_seeds
def test_one_request_is_what_is_predicted(seed: int) -> None:
    plan, _ = drawn(seed)
    predicted = predict(plan)

    report = simulate(plan, requests=1)

    assert report.latency_s == pytest.approx(predicted.latency_s, rel=1e-9)
    assert report.energy_j == pytest.approx(predicted.energy_j, rel=1e-9)
    assert report.transferred_bytes == predicted.transferred_bytes


@_seeds
def test_many_requests_are_all_answered_and_move_as_many_bytes(seed: int) -> None:
    plan, rng = drawn(seed)
    predicted = predict(plan)
    arrivals = rng.choice([ClosedLoop(3), Poisson(1.5 / predicted.period_s, seed), Poisson(0.1, seed)])

    report = simulate(plan, 20, arrivals=arrivals, max_in_flight=rng.choice([1, 2, 8]))

    assert len(report.latencies_s) == 20
    assert report.transferred_bytes == 20 * predicted.transferred_bytes
    assert min(report.latencies_s) >= predicted.latency_s * (1 - 1e-9)
    shares = report.resource_busy_share
    assert max(shares.values()) <= 1 + 1e-9
    # Every resource is occupied as often for each request as it is for one.
    unit = shares[predicted.bottleneck] / predicted.period_s
    assert {name: share / unit for name, share in shares.items()} == pytest.approx(
        dict(predicted.busy_s), rel=1e-6
    )


@_seeds
def test_nothing_is_lost_or_answered_twice_when_devices_go_and_come(seed: int) -> None:
    plan, rng = drawn(seed)
    span_s = 20 * predict(plan).period_s
    changes = []
    for rank in plan.cluster.ranks:
        if rank != plan.cluster.source_rank and rng.random() < 0.7:
            name = plan.cluster.devices[rank].name
            lost_s = rng.uniform(0.0, span_s)
            changes.append(Change(time_s=lost_s, kind="lose", device=name))
            if rng.random() < 0.5:
                changes.append(Change(time_s=lost_s + rng.uniform(0.0, span_s), kind="join", device=name))
    reaction = Reaction(detection_s=rng.uniform(0.0, span_s / 5), switch_s=rng.uniform(0.0, span_s / 5))

    report = simulate(
        plan,
        20,
        arrivals=Poisson(20 / span_s, seed),
        scenario=Scenario(changes=tuple(changes)),
        reaction=reaction,
    )

    assert report.num_lost == 0
    assert len(report.latencies_s) == len(report.records) == 20
    assert all(record.answer_s > record.arrival_s for record in report.records)
    assert report.num_replayed == sum(record.attempts > 1 for record in report.records)
