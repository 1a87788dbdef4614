"""Workers that are killed, stopped and started again under a session: every request is answered, rightly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeflow as ef
from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ClusterError
from edgeflow.plan import Plan

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402
from tests.clusters import slow  # noqa: E402

ROOT = Path(ef.__file__).resolve().parents[1]
TIMEOUT_S = 30.0


class Fleet:
    """Worker processes at addresses that stay the same when one is started again."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        # All at once: each takes a second to import its modules.
        self.processes = [self._launch(index, "127.0.0.1:0") for index in range(size)]
        self.addresses = [_address(process) for process in self.processes]

    def restart(self, index: int) -> None:
        stdout = self.processes[index].stdout
        assert stdout is not None
        stdout.close()
        self.processes[index] = self._launch(index, self.addresses[index])
        _address(self.processes[index])

    def kill(self, index: int) -> None:
        self.processes[index].kill()
        self.processes[index].wait()

    def signal(self, index: int, number: signal.Signals) -> None:
        self.processes[index].send_signal(number)

    def _launch(self, index: int, bind: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "edgeflow.worker", "--bind", bind),
                *("--cache-dir", str(self._folder / str(index))),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip().removeprefix("listening ")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, 3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def module() -> Any:
    return models.tiny_resnet()


@pytest.fixture(scope="module")
def plan(module: Any) -> Plan:
    graph = ef.capture(module, (torch.zeros(1, 3, 32, 32),))
    return ef.plan(graph, slow([1.0, 0.8, 0.6]), strategy="coedge")


class Asking:
    """Asks without end, and compares each answer with the module's."""

    def __init__(self, session: ef.Session, module: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        self._images = [torch.randn(1, 3, 32, 32, generator=generator) for _ in range(4)]
        self._expected = [module(image) for image in self._images]
        self._session = session
        self.num_right = 0
        self.problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            index = self.num_right % 4
            try:
                answer = self._session.run(self._images[index])
            except Exception as error:
                self.problem = f"request {self.num_right}: {error!r}"
                return
            difference = (answer - self._expected[index]).abs().max().item()
            if not difference <= 1e-4 * self._expected[index].abs().max().item():
                self.problem = f"request {self.num_right} is off by {difference}"
                return
            self.num_right += 1

    def until(self, condition: Callable[[], bool], *, timeout_s: float = TIMEOUT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert not self.problem, self.problem
            assert time.monotonic() < deadline_s, "it did not come about in time"
            time.sleep(0.01)

    def more(self, count: int = 5) -> None:
        """Wait for more answers."""
        goal = self.num_right + count
        self.until(lambda: self.num_right >= goal)

    def end(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        assert not self.problem, self.problem


def used(session: ef.Session) -> set[str]:
    return {session.plan.cluster.devices[rank].name for rank in session.plan.devices}


def test_a_killed_worker_is_replaced_by_the_others_and_used_again(
    fleet: Fleet, plan: Plan, module: Any
) -> None:
    with ef.deploy(plan, workers=fleet.addresses, timeout_s=TIMEOUT_S) as session:
        asking = Asking(session, module)
        asking.more()
        fleet.kill(1)
        asking.until(lambda: used(session) == {"device0", "device2"})
        asking.more()
        fleet.restart(1)
        asking.until(lambda: used(session) == {"device0", "device1", "device2"})
        asking.more()
        asking.end()


class Doubled(torch.nn.Module):
    """A model whose answers are other numbers, in another structure."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, input: Any) -> Any:
        logits = self.module(input)
        return {"logits": logits, "twice": logits + logits}


def test_a_killed_worker_after_another_graph_took_over(fleet: Fleet, plan: Plan, module: Any) -> None:
    """What was begun by the old graph, and what comes later, is answered by the new one; as is planned."""
    doubled = Doubled(module).eval()
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    graph = ef.capture(doubled, (image,))
    with ef.deploy(plan, workers=fleet.addresses, timeout_s=TIMEOUT_S) as session, torch.inference_mode():
        expected = doubled(image)
        before = session.run(image)
        assert torch.allclose(before, expected["logits"], atol=1e-4)

        fleet.signal(2, signal.SIGSTOP)
        held = [session.submit(image) for _ in range(3)]
        two = Cluster(name="two", devices=plan.cluster.devices[:2], network=plan.cluster.network)
        session.roll_out(ef.plan(graph, two, strategy="coedge"), reason="another graph")
        later = session.submit(image)
        assert later.result(TIMEOUT_S).keys() == {"logits", "twice"}
        assert not any(future.done() for future in held)
        fleet.kill(2)  # the old plan's requests begin again
        answers = [*(future.result(TIMEOUT_S) for future in held), later.result()]

        fleet.kill(1)  # the new plan is lost
        answers.append(session.run(image))
        assert used(session) == {"device0"}
        assert session.plan.graph is graph

        fleet.restart(1)
        deadline_s = time.monotonic() + TIMEOUT_S
        while used(session) == {"device0"}:
            assert time.monotonic() < deadline_s, "the worker that came back is not used"
            time.sleep(0.01)
        assert session.plan.graph is graph
        answers.append(session.run(image))
        for answer in answers:
            assert answer.keys() == {"logits", "twice"}
            for name in expected:
                assert (answer[name] - expected[name]).abs().max() <= 1e-4 * expected[name].abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 2], ids=["the source's", "another"])
def test_a_stopped_worker_is_noticed_and_used_again(
    fleet: Fleet, plan: Plan, module: Any, index: int
) -> None:
    """It closes no connection: only that it answers no ping tells."""
    with ef.deploy(plan, workers=fleet.addresses, timeout_s=TIMEOUT_S) as session:
        asking = Asking(session, module)
        asking.more()
        fleet.signal(index, signal.SIGSTOP)
        asking.until(lambda: f"device{index}" not in used(session))
        asking.more()
        fleet.signal(index, signal.SIGCONT)
        asking.until(lambda: f"device{index}" in used(session))
        asking.more()
        asking.end()


@pytest.mark.slow
def test_nobody_is_left_and_then_somebody_is(fleet: Fleet, plan: Plan, module: Any) -> None:
    image = torch.zeros(1, 3, 32, 32)
    with ef.deploy(plan, workers=fleet.addresses, timeout_s=TIMEOUT_S) as session:
        session.run(image)
        for index in range(3):
            fleet.kill(index)
        with pytest.raises(ClusterError):
            session.run(image)
        fleet.restart(2)
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                answer = session.run(image)
                break
            except ClusterError:
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
        assert (answer - module(image)).abs().max() <= 1e-4 * module(image).abs().max()


@pytest.mark.slow
def test_a_new_worker_joins_and_is_used(fleet: Fleet, plan: Plan, module: Any) -> None:
    fast = slow([4.0])
    two = Cluster(name="two", devices=plan.cluster.devices[1:], network=plan.cluster.network)
    small = ef.plan(plan.graph, two, strategy="coedge")
    with ef.deploy(small, workers=fleet.addresses[1:], timeout_s=TIMEOUT_S) as session:
        asking = Asking(session, module)
        asking.more()
        session.join(fleet.addresses[0], fast.devices[0])
        asking.until(lambda: "device0" in used(session))
        asking.more()
        asking.end()


CHILD = """
    import sys, time, torch
    import edgeflow as ef
    from edgeflow.testing import models
    from tests.clusters import slow
    graph = ef.capture(models.tiny_resnet(), (torch.zeros(1, 3, 32, 32),))
    plan = ef.plan(graph, slow([1.0, 0.8, 0.6]), strategy="coedge")
    session = ef.deploy(plan, workers=sys.argv[1:], timeout_s=30)
    session.run(torch.zeros(1, 3, 32, 32))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_workers_outlive_a_coordinator_that_dies(fleet: Fleet, plan: Plan, module: Any) -> None:
    import textwrap

    from edgeflow.coordinator.client import WorkerClient

    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), *fleet.addresses],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline().strip() == "ready"
    finally:
        child.kill()
        child.communicate()
    clients = [WorkerClient(address, rank) for rank, address in enumerate(fleet.addresses)]
    deadline_s = time.monotonic() + TIMEOUT_S
    while any(client.held_epochs(timeout_s=5.0) for client in clients):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    for client in clients:
        client.close()
    with ef.deploy(plan, workers=fleet.addresses, timeout_s=TIMEOUT_S) as session:
        image = torch.ones(1, 3, 32, 32)
        assert torch.allclose(session.run(image), module(image), atol=1e-4)
