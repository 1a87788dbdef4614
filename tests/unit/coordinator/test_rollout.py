"""A roll-out carries out the decisions of `DeploymentState`; with controls that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
import pytest

from edgeflow.coordinator.control import Control, Description, Report
from edgeflow.coordinator.rollout import ContentTable, Rollout
from edgeflow.errors import StalePlanError, WorkerUnreachableError
from edgeflow.net.content import content_of
from edgeflow.plan import Plan
from edgeflow.plan.program import CLIENT
from edgeflow.planner import plan as make_plan
from edgeflow.testing.virtual import VirtualThreads
from tests.clusters import slow
from tests.unit.plan.tiny import mlp

EPOCH = 9


class Worker:
    """A `Control`: each call takes a second, or fails, or lasts until it is cancelled."""

    def __init__(self, world: World, address: str, rank: int) -> None:
        self.address = address
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.loaded: list[tuple[Any, Any]] = []
        self.is_closed = False
        self._world = world
        self._rank = rank
        self._cancelled = world.threads.event()

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((method, options))
            outcome = self._world.outcomes.get((self._rank, method))
            if outcome == "hangs":
                self._cancelled.wait()
                raise WorkerUnreachableError("the call was given up")
            self._world.threads.sleep(1.0)
            if isinstance(outcome, Exception):
                raise outcome
            return getattr(self, f"_{method}", lambda *args, **options: None)(*args, **options)

        return call

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.calls]

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self.is_closed = True

    def _describe(self, **options: Any) -> Description:
        return Description(f"w{self._rank}", "1", "torch", 1, 1 << 30, 0.0, 0.0, {"tcp": 7000 + self._rank})

    def _prepare(self, epoch: int, program: Any, *, contents: Iterable[Any], **options: Any) -> Any:
        contents = [*contents]
        assert [c.shape for c in contents] == [item.region.shape for item in program.weights]
        return tuple(c.content_hash for c in contents if c.content_hash not in self._world.kept)

    def _load(self, epoch: int, slices: Iterable[Any], **options: Any) -> None:
        self.loaded = [*slices]

    def _report(self, epoch: int, **options: Any) -> Report:
        return Report({self._rank: []}, 0)


class World:
    def __init__(self, plan: Plan) -> None:
        self.threads = VirtualThreads()
        self.plan = plan
        self.outcomes: dict[tuple[int, str], Any] = {}
        self.kept: set[str] = set()
        self.attached: list[int] = []
        self.workers: dict[int, Worker] = {}
        self.contents = ContentTable(plan.graph)

        def control(address: str, rank: int) -> Control:
            self.workers[rank] = Worker(self, address, rank)
            return cast(Control, self.workers[rank])

        def routes(addresses: Mapping[int, str], ports: Mapping[int, Mapping[str, int]]) -> Mapping[int, str]:
            return {rank: f"{address}/{ports[rank]['tcp']}" for rank, address in addresses.items()}

        self.rollout = Rollout(
            plan,
            EPOCH,
            {0: "a:1", 1: "b:1"},
            attach=self.attached.append,
            timeout_s=60.0,
            contents=self.contents,
            choose_routes=routes,
            control=control,
            threads=self.threads,
            connect_timeout_s=3.0,
        )

    def after(self, seconds: float, function: Callable[[], object]) -> Any:
        def run() -> None:
            self.threads.sleep(seconds)
            function()

        return self.threads.start(run, name="later")


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = make_plan(mlp(), slow([1.0, 0.9]), strategy="megatron")
    assert set(made.programs) == {CLIENT, 0, 1}
    return made


@pytest.fixture
def world(plan: Plan) -> World:
    return World(plan)


STEPS = ["describe", "prepare", "load", "commit"]


def test_all_workers_take_each_step_at_the_same_time(world: World) -> None:
    world.rollout.open()
    assert world.threads.now() == 4.0
    assert all(worker.methods == STEPS for worker in world.workers.values())
    assert sorted(world.attached) == [0, 1]
    assert world.rollout.blamed is None
    options = dict(world.workers[0].calls)
    assert options["prepare"]["peers"] == {0: "a:1/7000", 1: "b:1/7001"}
    assert options["prepare"]["fingerprint"] == world.plan.fingerprint
    assert options["prepare"]["key"] == world.rollout.key
    assert (options["describe"]["timeout_s"], options["commit"]["timeout_s"]) == (3.0, 3.0)
    assert options["prepare"]["timeout_s"] == 60.0


def test_missing_weights_are_sent_once_and_get_the_time_of_a_slow_link(world: World) -> None:
    items = world.plan.programs[0].weights
    contents = [world.contents.content(item) for item in items]
    world.kept = {contents[0].content_hash}
    world.rollout.open()
    sent = world.workers[0].loaded
    assert {content for content, _ in sent} == set(contents) - {contents[0]}
    assert all(content_of(np.ascontiguousarray(array), dtype=c.dtype) == c for c, array in sent)
    num_bytes = sum(content.num_bytes for content, _ in sent)
    assert world.rollout.moved_bytes[0] == num_bytes
    assert dict(world.workers[0].calls)["load"]["timeout_s"] == pytest.approx(60.0 + num_bytes / 1e6)


@pytest.mark.parametrize("method", STEPS)
def test_a_step_that_fails_is_undone_on_all_workers_that_were_told(world: World, method: str) -> None:
    world.outcomes[1, method] = StalePlanError("no")
    with pytest.raises(StalePlanError, match="no"):
        world.rollout.open()
    assert world.rollout.blamed == 1
    done = STEPS[: STEPS.index(method) + 1]
    undo = [] if method == "describe" else ["abort"]
    for worker in world.workers.values():
        assert worker.methods == [*done, *undo]
        assert worker.is_closed
    assert world.attached == []


def test_a_connection_that_fails_is_undone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(rank: int) -> None:
        raise WorkerUnreachableError(f"rank {rank}")

    from edgeflow.coordinator import state as s

    world.rollout._calls = {**world.rollout._calls, s.Call.ATTACH: refuse}
    with pytest.raises(WorkerUnreachableError):
        world.rollout.open()
    assert all(worker.methods[-1] == "abort" for worker in world.workers.values())


def test_one_failure_ends_the_calls_that_are_under_way(world: World) -> None:
    world.outcomes = {(0, "load"): "hangs", (1, "load"): StalePlanError("no")}
    with pytest.raises(StalePlanError, match="no"):
        world.rollout.open()
    assert world.threads.now() == pytest.approx(4.0)  # three steps, and the abort
    assert world.rollout.blamed == 1
    assert world.workers[0].methods[-1] == "abort"


def test_a_roll_out_that_is_given_up_fails_with_the_reason_and_is_undone(world: World) -> None:
    world.outcomes[0, "commit"] = "hangs"
    error = WorkerUnreachableError("device1 is gone")
    thread = world.after(10.0, lambda: world.rollout.interrupt(error))
    with pytest.raises(WorkerUnreachableError) as caught:
        world.rollout.open()
    assert caught.value is error
    thread.join()
    assert all(worker.methods[-1] == "abort" and worker.is_closed for worker in world.workers.values())


@pytest.mark.parametrize(("is_idle", "method"), [(True, "release"), (False, "abort")])
def test_closing_takes_the_plan_off_within_a_short_time_and_once(
    world: World, is_idle: bool, method: str
) -> None:
    world.rollout.open()
    world.rollout.interrupt(WorkerUnreachableError("too late"))  # it has been opened
    world.outcomes[1, method] = WorkerUnreachableError("gone")  # is left alone
    world.rollout.close(is_idle=is_idle)
    world.rollout.close(is_idle=is_idle)
    for worker in world.workers.values():
        assert worker.methods == [*STEPS, method]
        assert worker.calls[-1][1]["timeout_s"] == 2.0
        assert worker.is_closed


def test_reports_of_workers_that_give_none_are_raised_or_left_out(world: World) -> None:
    world.rollout.open()
    assert {rank: [*report.requests] for rank, report in world.rollout.reports(min_request_id=3).items()} == {
        0: [0],
        1: [1],
    }
    assert world.workers[0].calls[-1][1] == {"min_request_id": 3, "timeout_s": 60.0}
    world.outcomes[0, "report"] = WorkerUnreachableError("gone")
    with pytest.raises(WorkerUnreachableError):
        world.rollout.reports(min_request_id=0)
    found = world.rollout.reports(min_request_id=0, timeout_s=0.5, is_patient=False)
    assert set(found) == {1}
    assert world.workers[1].calls[-1][1]["timeout_s"] == 0.5
