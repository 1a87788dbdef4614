"""Workers in memory: what may be asked of them, and the faults that tests rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.coordinator.session import Session
from edgeflow.errors import StalePlanError, WorkerUnreachableError
from edgeflow.kernels import make_executor
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.testing.memory_cluster import MemoryCluster, TimedExecutor
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow
from tests.unit.plan.tiny import mlp

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[MemoryCluster]:
    made = MemoryCluster(["device0", "device1"], tmp_path, threads=VirtualThreads(), can_replace=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(mlp(), slow([1.0, 0.9]), strategy="megatron")


def control(cluster: MemoryCluster, device: str = "device0") -> Any:
    return cluster.network().control(cluster.addresses[device], 0)


def test_a_session_answers_on_it(cluster: MemoryCluster, plan: Plan) -> None:
    with Session(plan, cluster, network=cluster.network(), timeout_s=10.0) as session:
        answer = session.run(X)
        assert cluster.held_epochs == len(plan.devices)
    np.testing.assert_allclose(answer, ef.execute(plan, (X,)), rtol=1e-5)
    assert cluster.held_epochs == 0


def test_a_worker_describes_itself_and_is_pinged(cluster: MemoryCluster) -> None:
    client = control(cluster)
    said = client.describe(timeout_s=1.0)
    assert (said.name, said.executor, said.clock_offset_s) == (client.address, "torch", 0.0)
    assert client.ping([], timeout_s=1.0).instance == cluster.worker("device0").instance
    assert client.held_epochs(timeout_s=1.0) == ()


def test_an_error_comes_as_over_the_wire_with_the_workers_name(cluster: MemoryCluster) -> None:
    with pytest.raises(StalePlanError, match=r"worker memory:1 \(rank 0\): epoch 5 is not held here"):
        control(cluster).commit(5, timeout_s=1.0)


def test_a_killed_worker_refuses_calls_at_once(cluster: MemoryCluster) -> None:
    client = control(cluster)
    cluster.kill("device0")
    started_s = cluster.threads.now()
    with pytest.raises(WorkerUnreachableError, match="nobody listens there"):
        client.ping([], timeout_s=5.0)
    assert cluster.threads.now() - started_s < 0.01
    assert control(cluster, "device1").ping([], timeout_s=1.0)


def test_a_hung_worker_uses_the_whole_time_and_may_go_on(cluster: MemoryCluster) -> None:
    client = control(cluster)
    cluster.hang("device0")
    started_s = cluster.threads.now()
    with pytest.raises(WorkerUnreachableError, match=r"no answer in 5\.0 s"):
        client.ping([], timeout_s=5.0)
    assert cluster.threads.now() - started_s == pytest.approx(5.0, abs=0.01)
    cluster.resume("device0")
    client.ping([], timeout_s=5.0)


def test_describing_waits_for_a_worker_to_come_up(cluster: MemoryCluster) -> None:
    client = control(cluster)
    cluster.kill("device0")
    threads = cluster.threads

    def come_up() -> None:
        threads.sleep(2.0)
        cluster.start("device0")

    thread = threads.start(come_up, name="late")
    client.describe(timeout_s=10.0)
    assert 2.0 <= threads.now() < 2.2
    thread.join()
    cluster.kill("device0")
    with pytest.raises(WorkerUnreachableError):
        client.describe(timeout_s=1.0)
    assert 3.0 <= threads.now() < 3.5


def test_a_worker_comes_back_at_its_address_as_another_process(cluster: MemoryCluster) -> None:
    before, address = cluster.worker("device0"), cluster.addresses["device0"]
    assert cluster.replace("device0") is None
    cluster.kill("device0")
    assert cluster.replace("device0") == address
    assert cluster.worker("device0").instance != before.instance


def test_a_client_that_is_given_up_only_undoes(cluster: MemoryCluster) -> None:
    client = control(cluster)
    client.cancel()
    with pytest.raises(WorkerUnreachableError, match="given up"):
        client.ping([], timeout_s=1.0)
    client.abort(5, timeout_s=1.0)
    client.release(5, timeout_s=1.0)


def test_a_probe_takes_its_time(cluster: MemoryCluster) -> None:
    started_s = cluster.threads.now()
    assert control(cluster).probe(0.3, timeout_s=1.0) == pytest.approx(1e-3)
    assert cluster.threads.now() - started_s == pytest.approx(0.3, abs=0.01)


def test_kernels_take_as_long_as_they_are_told_to(plan: Plan, tmp_path: Path) -> None:
    threads = VirtualThreads()
    cluster = MemoryCluster(
        ["device0", "device1"],
        tmp_path,
        threads=threads,
        executor=lambda device: TimedExecutor(make_executor("torch"), threads, lambda compute: 1.0),
    )
    with Session(plan, cluster, network=cluster.network(), timeout_s=100.0) as session:
        started_s = threads.now()
        session.run(X)
        assert 1.0 <= threads.now() - started_s < 10.0
        computed = [event for event in session.trace() if event.kind == "compute"]
    assert computed and all(event.stop_s - event.start_s == pytest.approx(1.0) for event in computed)
