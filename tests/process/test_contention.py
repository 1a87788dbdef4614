"""How much workers on one machine are in each other's way, on real processes."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext

import pytest

import edgeflow as ef
from edgeflow.coordinator.processes import LocalWorkers
from edgeflow.errors import ConfigError

pytest.importorskip("torch")

from edgeflow.bench.machine import pin
from tests.numerics.test_models import loaded


def test_two_workers_on_one_core_take_about_twice_as_long() -> None:
    graph, example, _ = loaded("openworld-tiny")
    plan = ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")
    core = min(os.sched_getaffinity(0))
    with closing(LocalWorkers({0: 1.0, 1: 1.0}, threads=1, executor="torch")) as workers:
        for pid in workers.pids.values():
            pin(pid, [core])
        addresses = [workers.addresses[rank] for rank in (0, 1)]
        both = ef.measure_contention(plan, addresses, example.args, example.kwargs)
        alone = ef.measure_contention(plan, addresses[:1], example.args, example.kwargs)

    assert both > 1.2
    assert alone == 1.0


def test_what_is_measured_is_one_device() -> None:
    graph, _, _ = loaded("openworld-tiny")
    plan = ef.plan(graph, ef.Cluster.local([1.0, 1.0]), strategy="single")
    with pytest.raises(ConfigError, match="this one has 2"):
        ef.measure_contention(plan, ["127.0.0.1:1"])
    with pytest.raises(ConfigError, match="at least one round is measured, got 0"):
        alone = ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")
        ef.measure_contention(alone, ["127.0.0.1:1"], rounds=0)


def test_the_worker_that_is_delayed_the_most_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _, _ = loaded("openworld-tiny")
    plan = ef.plan(graph, ef.Cluster.local([1.0]), strategy="single")
    alone_s = {"a": 1.0, "b": 4.0}
    delays = {"a": iter([9.0, 1.1, 1.3, 1.0]), "b": iter([9.0, 1.2, 1.0, 1.05])}
    where = "edgeflow.measure.contention"
    monkeypatch.setattr(f"{where}.deploy", lambda plan, names, access: nullcontext(names[0]))
    monkeypatch.setattr(f"{where}._seconds", lambda name, *request: alone_s[name])
    monkeypatch.setattr(f"{where}._seconds_beside", lambda name, *request: alone_s[name] * next(delays[name]))

    # The first round does not count; then 1.2, 1.3 and 1.05.
    assert ef.measure_contention(plan, ["a", "b"], rounds=3) == pytest.approx(1.2)
