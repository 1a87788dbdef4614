"""Random model x random cluster x any plan: legal on the cluster, and equal to the module.

Every model and every cluster follows from a seed; a failure names both, so that it can be written down as a
test of its own. What strategies make is drawn, and far more: layouts in any mixture, and stages whose
tensors are owned in random boxes, copies and partial sums, which no strategy would think of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random

import msgspec
import pytest
import torch
from torch import Tensor

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.cost import CostModel, predict
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan import Decision, Plan, Stage, Weighed, verify_plan
from edgeflow.plan.verify import memory_bytes
from edgeflow.planner.objective import Objective
from edgeflow.planner.task import Task
from edgeflow.testing.random_models import outputs_of, random_cluster, random_model
from tests.property.plans import random_layout_stages, random_stages
from tests.property.programs import check_programs
from tests.strategies import STRATEGIES

#: Largest difference from the module, as a share of the answer's largest value.
_TOLERANCE = 1e-4
_CLUSTERS_PER_MODEL = 4
#: Strategies that find a plan wherever one device alone can hold the model.
_NEEDS_NO_MORE = ("single", "replicate", "pipeline", "coedge", "fused", "auto")

_seeds = pytest.mark.parametrize(
    "seed", [*range(24), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(24, 250))]
)


@cache
def drawn(seed: int) -> tuple[ModelGraph, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return a captured model, inputs, and what the module itself answers."""
    module, args = random_model(seed)
    with torch.no_grad():
        expected = tuple(tensor.clone() for tensor in outputs_of(module(*args)))
    return ef.capture(module, args), args, expected


@contextmanager
def clusters(seed: int) -> Iterator[Iterator[tuple[int, Cluster]]]:
    """Give seeds and clusters for one model; say which one it was if a test fails."""
    current: list[int] = []

    def each() -> Iterator[tuple[int, Cluster]]:
        for index in range(_CLUSTERS_PER_MODEL):
            current.append(seed * 1000 + index)
            yield current[-1], random_cluster(current[-1])

    try:
        yield each()
    except Exception as error:
        error.add_note(f"random_model({seed}), random_cluster({current[-1]})")
        raise


def check(plan: Plan, args: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Check everything that is true of every plan."""
    verify_plan(plan)
    check_programs(plan.graph, plan.programs)
    found = outputs_of(ef.execute(plan, args))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        assert (mine - theirs).abs().max() <= _TOLERANCE * theirs.abs().max()
    prediction = predict(plan)
    report = ef.simulate(plan, requests=1)
    assert report.latency_s == pytest.approx(prediction.latency_s, rel=1e-9)
    assert report.transferred_bytes == prediction.transferred_bytes
    assert plan.graph.name in plan.explain()


def plan_of(graph: ModelGraph, cluster: Cluster, stages: tuple[Stage, ...]) -> Plan:
    return Plan(Decision(graph=graph, cluster=cluster, stages=stages), Weighed(strategy="random"))


@_seeds
def test_strategies(seed: int, tmp_path: Path) -> None:
    """Every strategy's plan is exact, survives the disk, and is no better than that of `auto`."""
    graph, args, expected = drawn(seed)
    with clusters(seed) as each:
        for _, cluster in each:
            plans = plans_of(graph, cluster)
            assert all(
                plans["auto"].predicted_latency_s <= plan.predicted_latency_s for plan in plans.values()
            )
            # Strategies often agree, on one device for instance: equal stages are the same programs.
            for plan in {(plan.stages, plan.replicas): plan for plan in plans.values()}.values():
                check(plan, args, expected)
                assert plan.predicted_latency_s == predict(plan).latency_s
                plan.save(tmp_path / "plan.json")
                assert Plan.load(tmp_path / "plan.json", graph).fingerprint == plan.fingerprint


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 40))]
)
@pytest.mark.parametrize("kind", ["throughput", "energy"])
def test_auto_is_no_worse_than_any_strategy_under_any_objective(seed: int, kind: str) -> None:
    """With a deadline and without, where devices draw different powers; the answer stays the module's."""
    graph, args, expected = drawn(seed)
    with clusters(seed) as each:
        for cluster_seed, cluster in each:
            rng = Random(cluster_seed)
            powered = with_power(rng, cluster)
            quick = ef.plan(graph, powered, strategy="single").predicted_latency_s
            deadline_s = rng.choice([None, quick * rng.uniform(0.5, 3.0)])
            objective = Objective.of(kind, deadline_s)
            plans = plans_of(graph, powered, kind, deadline_s)
            for plan in plans.values():
                assert objective.score(plans["auto"]) <= objective.score(plan)
            check(Plan(plans["auto"].ways[-1], plans["auto"].weighed), args, expected)


def with_power(rng: Random, cluster: Cluster) -> Cluster:
    devices = tuple(
        msgspec.structs.replace(device, power_compute_w=rng.uniform(1.0, 60.0)) for device in cluster.devices
    )
    return msgspec.structs.replace(cluster, devices=devices)


def plans_of(
    graph: ModelGraph, cluster: Cluster, kind: str = "latency", deadline_s: float | None = None
) -> dict[str, Plan]:
    """Return every strategy's plan; the exhaustive one refuses what is not tiny."""
    plans = {}
    for name in ef.strategies():
        try:
            plans[name] = ef.plan(graph, cluster, strategy=name, objective=kind, deadline_s=deadline_s)
        except InfeasiblePlanError as error:
            assert name == "brute_force" and error.constraint == "plans"
    return plans


@_seeds
def test_random_layouts(seed: int) -> None:
    """Any layout for any run of operators: any devices, uneven shares and none, halos exchanged or not."""
    graph, args, expected = drawn(seed)
    with clusters(seed) as each:
        for cluster_seed, cluster in each:
            task = Task(graph=graph, cluster=cluster, cost=CostModel(cluster=cluster))
            check(plan_of(graph, cluster, random_layout_stages(Random(cluster_seed), task)), args, expected)


@_seeds
def test_random_stages(seed: int) -> None:
    """Any operators in a stage, in any topological order, and any covering of what leaves it."""
    graph, args, expected = drawn(seed)
    with clusters(seed) as each:
        for cluster_seed, cluster in each:
            rng = Random(cluster_seed)
            check(plan_of(graph, cluster, random_stages(rng, graph, cluster)), args, expected)


@pytest.mark.parametrize("seed", range(8))
def test_memory_is_kept_or_refused(seed: int) -> None:
    """Where memory is short a plan fits, or the error says how much there is and how much it would take."""
    graph, _, _ = drawn(seed)
    with clusters(seed) as each:
        for cluster_seed, cluster in each:
            alone = ef.plan(graph, cluster, strategy="single")
            required = max(memory_bytes(alone.programs).values())
            limit = int(required * Random(cluster_seed).uniform(0.3, 1.5))
            short = with_memory(cluster, limit)
            for name in STRATEGIES:
                try:
                    plan = ef.plan(graph, short, strategy=name)
                except InfeasiblePlanError as error:
                    assert error.constraint == "memory"
                    assert error.available == limit < (error.required or 0)
                    # Others may need more than one device alone does: they hold what they do not need to.
                    assert limit < required or name not in _NEEDS_NO_MORE
                else:
                    assert max(memory_bytes(plan.programs).values()) <= limit


def with_memory(cluster: Cluster, memory_bytes: int) -> Cluster:
    devices = tuple(msgspec.structs.replace(device, memory_bytes=memory_bytes) for device in cluster.devices)
    return msgspec.structs.replace(cluster, devices=devices)


@pytest.mark.parametrize("seed", range(8))
def test_requests_that_contend_are_all_answered(seed: int) -> None:
    """No deadlock on shared devices and interfaces, every byte as often as there are requests."""
    graph, _, _ = drawn(seed)
    with clusters(seed) as each:
        for cluster_seed, cluster in each:
            plan = plan_of(graph, cluster, random_stages(Random(cluster_seed), graph, cluster))
            report = ef.simulate(plan, requests=5, interval_s=0.0)

            assert len(report.latencies_s) == 5
            assert report.transferred_bytes == 5 * predict(plan).transferred_bytes
            assert min(report.latencies_s) >= predict(plan).latency_s * (1 - 1e-9)
            assert max(report.busy_share.values()) <= 1 + 1e-9


def test_random_models_follow_from_their_seed() -> None:
    (first, args), (second, same_args) = random_model(7), random_model(7)

    assert all(torch.equal(a, b) for a, b in zip(args, same_args, strict=True))
    with torch.no_grad():
        answers = outputs_of(first(*args)), outputs_of(second(*args))
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
    assert random_cluster(7) == random_cluster(7)


def test_random_models_differ_in_every_way_that_they_should() -> None:
    """Several inputs, answers of each structure, batches: among the first hundred models all are met."""
    models = [random_model(seed) for seed in range(100)]

    with torch.no_grad():
        answers = [module(*args) for module, args in models]

    assert {type(answer) for answer in answers} == {torch.Tensor, tuple, dict}
    assert {len(args) for _, args in models} == {1, 2, 3}
    assert {len(args[0]) for _, args in models} == {1, 2, 3}
    assert {args[0].ndim for _, args in models} == {3, 4}
    assert {len(random_cluster(seed).devices) for seed in range(100)} == {1, 2, 3, 4, 5, 6}
    assert any(random_cluster(seed).source_rank > 0 for seed in range(100))
