"""Worker processes: they answer, they can be killed, and none outlives its purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import edgeflow as ef
from edgeflow.coordinator.processes import LocalWorkers
from edgeflow.cost import CostModel
from edgeflow.errors import ClusterError, DeadlineExceededError, WorkerUnreachableError
from edgeflow.plan import Plan
from edgeflow.planner.layouts.tiles import edges_of, fusable
from edgeflow.planner.strategies.deepthings import tiled
from edgeflow.planner.task import Task, finish
from edgeflow.worker.__main__ import main as worker_main

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402
from tests.clusters import slow  # noqa: E402
from tests.waiting import eventually  # noqa: E402

ROOT = Path(ef.__file__).resolve().parents[1]
SPEEDS = [1.0, 0.5, 0.25]


@pytest.fixture(scope="module")
def module() -> Any:
    return models.tiny_resnet()


@pytest.fixture(scope="module")
def plan(module: Any) -> Plan:
    graph = ef.capture(module, (torch.zeros(1, 3, 32, 32),))
    return ef.plan(graph, slow(SPEEDS), strategy="coedge")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Three workers for the tests that only ask them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("weights")))
        workers = LocalWorkers(dict(enumerate(SPEEDS)), threads=1, executor="auto")
    try:
        yield [workers.addresses[rank] for rank in range(len(SPEEDS))]
    finally:
        workers.close()


def image() -> Any:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Background:
    """Asks without end, until it fails."""

    def __init__(self, session: ef.Session) -> None:
        self.error: BaseException | None = None
        self.failed_s = 0.0
        self.num_answers = 0
        self._session = session
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._session.run(image())
                self.num_answers += 1
        except BaseException as error:
            self.error = error
            self.failed_s = time.monotonic()

    def join(self) -> BaseException | None:
        self._thread.join(30.0)
        assert not self._thread.is_alive()
        return self.error


def test_local_workers_answer_and_end(module: Any, plan: Plan) -> None:
    with ef.deploy(plan, local=True) as session:
        pids = session.worker_pids
        assert sorted(pids) == [0, 1, 2] and all(map(is_running, pids.values()))
        answer, expected = session.run(image()), module(image())
        assert (answer - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert all(size > 10_000_000 for size in session.peak_memory_bytes().values())
    assert not any(map(is_running, pids.values()))


@pytest.mark.parametrize("encoding", ["float16", "int8"])
def test_workers_exchange_narrow_activations(
    module: Any, plan: Plan, encoding: str, addresses: list[str]
) -> None:
    """They answer as one process does that runs the same programs, and not as one device does."""
    cluster = ef.Cluster.local([1.0, 1.0], bandwidth="100 Mbit/s")
    narrow = ef.plan(plan.graph, cluster, strategy="modnn", activations=encoding)
    exact = ef.plan(plan.graph, cluster, strategy="modnn")
    assert any(send.encoding for program in narrow.programs.values() for send in program.sends)
    with ef.deploy(narrow, workers=addresses[:2]) as session:
        answer = session.run(image())
    scale = module(image()).abs().max()
    assert (answer - ef.execute(narrow, (image(),))).abs().max() <= 1e-3 * scale
    assert 1e-6 * scale < (answer - ef.execute(exact, (image(),))).abs().max() < 0.1 * scale


@pytest.mark.slow
def test_speeds_are_emulated(plan: Plan) -> None:
    """A device of a quarter of the speed takes four times as long for a kernel."""
    seconds: dict[bool, float] = {}
    for emulate in (False, True):
        with ef.deploy(plan, local=True, emulate_speeds=emulate) as session:
            for _ in range(10):
                session.run(image())
            events = [e for e in session.trace() if e.rank == 2 and e.kind == "compute" and e.request > 3]
            seconds[emulate] = min(
                sum(e.duration_s for e in events if e.request == request) for request in range(4, 11)
            )
    assert seconds[True] > 2 * seconds[False]


def test_a_killed_worker_fails_the_request_at_once(plan: Plan) -> None:
    with ef.deploy(plan, local=True, timeout_s=30.0, replan=None) as session:
        background = Background(session)
        assert eventually(lambda: background.num_answers > 3)
        killed_s = time.monotonic()
        os.kill(session.worker_pids[1], signal.SIGKILL)
        error = background.join()
        assert isinstance(error, WorkerUnreachableError) and "rank 1" in str(error)
        assert background.failed_s - killed_s < 2.0
        with pytest.raises(WorkerUnreachableError):
            session.run(image())


@pytest.mark.slow
def test_a_stopped_worker_fails_the_request_in_time(plan: Plan) -> None:
    """A process that hangs closes no socket: without anybody who watches, only the deadline tells."""
    with ef.deploy(plan, local=True, timeout_s=5.0, replan=None) as session:
        background = Background(session)
        assert eventually(lambda: background.num_answers > 3)
        stopped_s = time.monotonic()
        os.kill(session.worker_pids[2], signal.SIGSTOP)
        error = background.join()
        assert isinstance(error, DeadlineExceededError) and "no answer in 5.0 s" in str(error)
        assert background.failed_s - stopped_s < 7.0
        # Closing ends it too: SIGTERM is of no use to a stopped process, SIGKILL is.


def test_an_interrupt_while_deploying_leaves_nothing(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeflow.coordinator.rollout import Rollout

    def interrupt(self: Rollout, rank: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Rollout, "_load", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ef.deploy(plan, local=True)


def test_workers_that_do_not_come_up_in_time_leave_nothing(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeflow.coordinator.processes.START_TIMEOUT_S", 0.1)
    with pytest.raises(WorkerUnreachableError, match=r"did not come up in 0\.1 s: it said nothing"):
        ef.deploy(plan, local=True)


def test_a_worker_that_cannot_start_says_why() -> None:
    with pytest.raises(WorkerUnreachableError, match=r"status 3 .*no executor 'abacus'"):
        LocalWorkers({0: 1.0, 1: 1.0}, threads=1, executor="abacus")


PARENT = """
    import os, sys, time, torch
    import edgeflow as ef
    from edgeflow.testing import models
    graph = ef.capture(models.mlp(), (torch.zeros(1, 64),))
    session = ef.deploy(ef.plan(graph, ef.Cluster.local([1.0, 0.5]), strategy="megatron"), local=True)
    session.run(torch.zeros(1, 64))
    print(*session.worker_pids.values(), flush=True)
    {end}
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("time.sleep(60)", -signal.SIGKILL),
        pytest.param("os._exit(7)", 7, marks=pytest.mark.slow),
        pytest.param("raise SystemExit(5)", 5, marks=pytest.mark.slow),
    ],
    ids=["killed", "exit at once", "forgot to close"],
)
def test_workers_end_when_their_parent_does(end: str, status: int) -> None:
    """Whatever way the parent goes: their standard input ends with it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT.format(end=end))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        if status == -signal.SIGKILL:
            assert all(map(is_running, pids))
            parent.kill()
        assert parent.wait(20.0) == status
        assert eventually(lambda: not any(map(is_running, pids)))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


# Workers that are started by hand.


def test_a_worker_loads_no_back_end_before_it_is_asked_to() -> None:
    """It may be one that has no torch."""
    code = "import sys, edgeflow.worker as w; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start a worker process; return it and its address."""
    processes = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeflow.worker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip().removeprefix("listening ")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_in_peace(start: Any, number: signal.Signals) -> None:
    process, address = start()
    assert address.startswith("127.0.0.1:")
    process.send_signal(number)
    _, errors = process.communicate(timeout=10.0)
    assert process.returncode == 0 and errors == ""


BAD_SETTINGS = [
    (["--bind", "0.0.0.0:0"], "--insecure"),
    (["--bind", "nonsense"], "can be reached"),
    (["--threads", "0"], "threads must be at least 1"),
    (["--speed", "2"], "speed must be"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD_SETTINGS)
def test_a_worker_with_bad_settings_ends_with_status_3(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["worker", *arguments])
    assert worker_main() == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and says in captured.err
    assert captured.out == ""  # it did not listen


def test_the_status_is_that_of_the_process(start: Any) -> None:
    arguments, says = BAD_SETTINGS[0]
    process, _ = start(*arguments)
    _, errors = process.communicate(timeout=10.0)
    assert process.returncode == 3
    assert errors.startswith("error: ") and says in errors and "Traceback" not in errors


def test_a_restarted_worker_serves_the_next_deployment(start: Any, plan: Plan, module: Any) -> None:
    with ThreadPoolExecutor() as pool:
        started = list(pool.map(lambda _: start(), range(3)))
    addresses = [address for _, address in started]
    session = ef.deploy(plan, workers=addresses, timeout_s=20.0, replan=None)
    session.run(image())
    started[1][0].kill()
    with pytest.raises(ClusterError):
        for _ in range(100):
            session.run(image())
    session.close()
    start("--bind", addresses[1])
    with ef.deploy(plan, workers=addresses, timeout_s=20.0) as again:
        assert torch.allclose(again.run(image()), module(image()), atol=1e-4)


def test_tasks_are_claimed_by_real_workers(module: Any, addresses: list[str]) -> None:
    """Tiles go to whoever asks; with several requests under way none is lost or computed twice."""
    graph = ef.capture(module, (torch.zeros(1, 3, 32, 32),))
    cluster = slow(SPEEDS)
    task = Task(graph=graph, cluster=cluster, cost=CostModel(cluster=cluster))
    length = fusable(task.analysis, edges_of(task.analysis))[0]
    stages = tiled(task, length, (3, 3), reuse=False, claims=True)
    claimed = finish(task, stages, strategy="deepthings", label="claimed")
    assert claimed.stages[0].claimants == (0, 1, 2)

    with ef.deploy(claimed, workers=addresses) as session:
        images = [torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(n)) for n in range(8)]
        for x, answer in zip(images, session.stream(images), strict=True):
            expected = module(x)
            assert (answer - expected).abs().max() <= 1e-4 * expected.abs().max()
        tiles = [e for e in session.trace() if e.kind == "compute" and e.stage == claimed.stages[0].name]

    assert len(tiles) == 8 * 9
