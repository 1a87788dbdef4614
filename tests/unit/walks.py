"""Random walks of the state machines: events as they may come, with every outcome in the journal.

Each walk takes a generator and a number of events, and returns the machine; errors of edgeflow are outcomes.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from edgeflow.coordinator import ledger as led
from edgeflow.coordinator import requests as req
from edgeflow.coordinator import state as dep
from edgeflow.coordinator.gather import Gatherer
from edgeflow.coordinator.members import CLIENT_END, Members, Watch
from edgeflow.coordinator.requests import ClientState
from edgeflow.coordinator.state import DeploymentState
from edgeflow.errors import (
    EdgeflowError,
    PeerLostError,
    StalePlanError,
    WorkerFailedError,
    WorkerUnreachableError,
)
from edgeflow.machine import Journal, Machine
from edgeflow.plan.program import CLIENT
from edgeflow.rank import events as r
from edgeflow.rank.schedule import FrameKey
from edgeflow.rank.state import RankState
from edgeflow.worker import events as e
from edgeflow.worker.registry import state as reg
from edgeflow.worker.registry.state import RegistryState
from edgeflow.worker.state import WorkerState

RECEIVES: Final = (FrameKey(CLIENT, 0), FrameKey(1, 1), FrameKey(1, 2))
NOT_DUE: Final = FrameKey(2, 9)

Key = tuple[int, int]


def _errors(rng: random.Random) -> EdgeflowError:
    return rng.choice(
        [
            StalePlanError("old"),
            WorkerFailedError("boom"),
            PeerLostError("rank 1 lost rank 2", rank=1, peer=2, is_silent=True),
        ]
    )


class RequestWorld:
    """What surrounds the requests of a rank: it checks that each ends once, and that nothing is kept after.

    Args:
        handle: Takes an event; returns instructions.
    """

    def __init__(self, handle: Callable[[Any], Sequence[object]]) -> None:
        self._handle = handle
        #: The request that the thread runs.
        self.running: Key | None = None
        self.known: set[Key] = set()
        self.held: dict[Key, set[FrameKey]] = {}
        self.begun: Counter[Key] = Counter()
        self.finished: Counter[Key] = Counter()
        self.failed: Counter[Key] = Counter()
        self.dropped: Counter[Key] = Counter()

    def event(self, event: object) -> Sequence[object]:
        """Take an event, and do what the rank's shell would."""
        if isinstance(event, r.RequestWaits | r.RequestFinished | r.RequestFailed):
            assert self.running == (event.epoch, event.request_id)
            self.running = None
        try:
            instructions = self._handle(event)
        except EdgeflowError:
            return []
        if isinstance(event, r.Submitted):
            self.known.add((event.epoch, event.request_id))
        for instruction in instructions:
            self._carry_out(instruction, event)
        return instructions

    def _carry_out(self, instruction: object, event: object) -> None:
        match instruction:
            case r.Keep():
                assert isinstance(event, r.FrameArrived)
                key = (event.epoch, event.request_id)
                assert not self.dropped[key], f"a frame is kept for {key}, which has ended"
                self.known.add(key)
                self.held.setdefault(key, set()).add(event.frame)
            case r.StartRequest(epoch, request_id):
                assert self.running is None, "one thread runs two requests"
                self.running = (epoch, request_id)
                assert not self.dropped[self.running]
                self.begun[self.running] += 1
            case r.Deliver(epoch, request_id, frame):
                assert self.running is None, "one thread runs two requests"
                self.running = (epoch, request_id)
                self.held[self.running].remove(frame)
            case r.FinishRequest(epoch, request_id):
                self.finished[epoch, request_id] += 1
            case r.FailRequest(epoch, request_id):
                self.failed[epoch, request_id] += 1
            case r.DropRequest(epoch, request_id):
                self.dropped[epoch, request_id] += 1
                self.held.pop((epoch, request_id), None)

    def go_on(self, rng: random.Random) -> object:
        """Return an event of the request that runs."""
        assert self.running is not None
        epoch, request_id = self.running
        return rng.choice(
            [
                r.RequestWaits(epoch, request_id, tuple(rng.sample(RECEIVES, rng.randint(1, 2)))),
                r.RequestWaits(epoch, request_id, RECEIVES),
                r.RequestFinished(epoch, request_id),
                r.RequestFailed(epoch, request_id, _errors(rng)),
            ]
        )

    def check_ended(self) -> None:
        """Check that every request that was known has ended once, and that nothing is kept."""
        assert self.known <= self.dropped.keys()
        assert set(self.dropped.values()) <= {1}, "a request was dropped twice"
        ends = self.finished + self.failed
        assert set(ends.values()) <= {1}, "a request was finished or failed twice"
        assert ends.keys() <= self.dropped.keys()
        assert set(self.begun.values()) <= {1}, "a request was begun twice"
        assert not self.held


def _frame(rng: random.Random, epoch: int, newest: int) -> r.FrameArrived:
    frame = rng.choice(RECEIVES) if rng.random() < 0.95 else NOT_DUE
    return r.FrameArrived(epoch, rng.randint(max(1, newest - 4), newest + 1), frame, rng.randrange(50))


def rank_requests(
    rng: random.Random, num_events: int, state: RankState | None = None
) -> tuple[RankState, RequestWorld]:
    """Several epochs of one rank, some of which begin requests by `Submitted`; all are closed in the end."""
    state = state or RankState()
    world = RequestWorld(state.handle)
    epochs: dict[int, bool] = {}
    newest: dict[int, int] = {}
    for _ in range(num_events):
        epoch = rng.choice([*epochs, 99])
        choice = rng.random()
        if len(epochs) < 3 and choice < 0.1:
            epoch = len(newest) + 1
            epochs[epoch], newest[epoch] = rng.random() < 0.4, 0
            world.event(
                r.EpochOpened(
                    epoch=epoch,
                    receives=frozenset(RECEIVES),
                    is_announced=epochs[epoch],
                    max_active=rng.randint(1, 3),
                    max_pending=rng.choice([3, 1 << 60]),
                    early_limit_bytes=rng.choice([100, 1 << 60]),
                )
            )
        elif choice < 0.12:
            world.event(r.EpochDrains(epoch, _errors(rng)))
        elif choice < 0.14:
            world.event(r.EpochBroken(epoch, _errors(rng)))
        elif choice < 0.16:
            world.event(r.EpochClosed(epoch))
            epochs.pop(epoch, None)
        elif choice < 0.5 and world.running is not None:
            world.event(world.go_on(rng))
        elif choice < 0.55:
            world.event(r.RequestAbandoned(epoch, rng.randint(1, newest.get(epoch, 0) + 1)))
        elif choice < 0.6:
            world.event(r.RequestLost(epoch, rng.randint(1, newest.get(epoch, 0) + 1), _errors(rng)))
        elif epochs.get(epoch) and choice < 0.8:
            newest[epoch] += 1
            world.event(r.Submitted(epoch, newest[epoch]))
        else:
            arrived = _frame(rng, epoch, newest.get(epoch, 0))
            if epoch in newest and not epochs.get(epoch):
                newest[epoch] = max(newest[epoch], arrived.request_id)
            world.event(arrived)
    if world.running is not None:
        world.event(world.go_on(rng))
    for epoch in epochs:
        world.event(r.EpochClosed(epoch))
    return state, world


def client_requests(rng: random.Random, num_events: int, state: ClientState | None = None) -> ClientState:
    state = state or ClientState()
    world = RequestWorld(state.handle)
    newest, now_s = 0, 0.0
    world.event(
        r.EpochOpened(epoch=1, receives=frozenset(RECEIVES), is_announced=True, max_active=rng.randint(1, 3))
    )
    for _ in range(num_events):
        now_s += rng.random()
        choice = rng.random()
        if choice < 0.3:
            newest += 1
            world.event(req.Expected(1, newest, now_s + rng.uniform(0.5, 20.0), now_s))
            world.event(r.Submitted(1, newest))
            if not state._requests.is_pending(1, newest):
                state.forget(1, newest)
        elif choice < 0.4:
            world.event(req.Tick(now_s))
        elif choice < 0.7 and world.running is not None:
            world.event(world.go_on(rng))
        elif choice < 0.72:
            world.event(r.RequestAbandoned(1, rng.randint(1, newest + 1)))
        elif choice < 0.73 and newest > num_events // 4:
            world.event(r.EpochBroken(1, _errors(rng)))
        else:
            world.event(_frame(rng, 1, newest))
    return state


def worker(rng: random.Random, num_events: int, state: WorkerState | None = None) -> WorkerState:
    state = state or WorkerState(memory_limit_bytes=3000, early_limit_bytes=200)
    world = RequestWorld(state.handle)
    newest, now_s, epochs = 0, 0.0, [1]
    for _ in range(num_events):
        now_s += rng.random()
        epoch = rng.choice(epochs[-3:])
        choice = rng.random()
        if choice < 0.06:
            epochs.append(epochs[-1] + 1)
            for event in (
                e.PrepareRequested(
                    epoch=epochs[-1],
                    rank=1,
                    receives=frozenset(RECEIVES),
                    peers=frozenset({CLIENT, 0, 2}),
                    weight_bytes=rng.randrange(900),
                    peak_bytes=rng.randrange(300),
                    now_s=now_s,
                ),
                e.Loaded(epochs[-1]),
                e.CommitRequested(epochs[-1]),
                e.PeerConnected(epochs[-1], CLIENT),
            ):
                if rng.random() < 0.97:
                    world.event(event)
        elif choice < 0.1:
            world.event(rng.choice([e.AbortRequested, e.ReleaseRequested])(epoch))
        elif choice < 0.13:
            world.event(e.PeerConnected(epoch, rng.choice([CLIENT, 0, 2])))
        elif choice < 0.15:
            world.event(e.PeerLost(epoch, rng.choice([CLIENT, 0, 2, 2]), "reset", rng.random() < 0.2))
        elif choice < 0.2:
            world.event(rng.choice([e.LeaseRenewed((epoch, 77), now_s), e.Tick(now_s)]))
        elif choice < 0.5 and world.running is not None:
            world.event(world.go_on(rng))
        elif choice < 0.55:
            world.event(r.RequestAbandoned(epoch, rng.randint(1, newest + 1)))
        else:
            arrived = _frame(rng, epoch, newest)
            newest = max(newest, arrived.request_id)
            world.event(arrived)
    return state


def ledger(rng: random.Random, num_events: int, state: led.Ledger | None = None) -> led.Ledger:
    state = state or led.Ledger(timeout_s=20.0, max_in_flight=2, max_waiting=5)
    newest, now_s, ways = 0, 0.0, [1]
    for _ in range(num_events):
        now_s += rng.random()
        way, request_id = rng.choice(ways[-4:]), rng.randint(max(1, newest - 8), newest + 1)
        choice = rng.random()
        event: led.LedgerEvent
        if choice < 0.35:
            newest += 1
            event = led.Submitted(newest, rng.choice([None, now_s + rng.uniform(1.0, 10.0)]))
        elif choice < 0.4:
            new = [ways[-1] + 1 + index for index in range(rng.randint(1, 3))]
            ways += new
            event = led.Opened({each: rng.uniform(0.1, 2.0) for each in new})
        elif choice < 0.43:
            event = led.WayLost(way, WorkerUnreachableError("gone"))
        elif choice < 0.45:
            event = led.NoPlan(WorkerUnreachableError("no worker is left"))
        elif choice < 0.8:
            event = led.Answered(way, request_id, rng.uniform(0.1, 3.0))
        elif choice < 0.85:
            event = led.Failed(way, request_id, rng.choice([_errors(rng), ValueError("foreign")]))
        elif choice < 0.9:
            event = led.Abandoned(request_id)
        else:
            event = led.Tick()
        _quietly(state.handle, event, now_s)
    return state


def members(rng: random.Random, num_events: int, state: Members | None = None) -> Members:
    names = ["a", "b", "c", "d"]
    state = state or Members(names[:3], Watch(), 0.0)
    now_s = 0.0
    state.add("d", now_s)
    for _ in range(num_events):
        now_s += rng.uniform(0.0, 3.0)
        a, b = rng.sample(names, 2)
        choice = rng.random()
        if choice < 0.3:
            state.heard(a, rng.choice(["i", "i", "i", "j"]), now_s)
        elif choice < 0.6:
            state.missed(a, "no answer", now_s, is_carrying=rng.random() < 0.3)
        elif choice < 0.65:
            state.lost(a, "refused")
        elif choice < 0.7:
            state.unfit(a, now_s, 5.0)
        elif choice < 0.9:
            state.strike(a, rng.choice([b, CLIENT_END]), now_s, is_certain=rng.random() < 0.3)
        else:
            state.rested(now_s)
    return state


def deployment(rng: random.Random, num_events: int, state: DeploymentState | None = None) -> DeploymentState:
    """One deployment; it ends long before ``num_events``."""
    state = state or DeploymentState([2, 0, 1])
    under_way: list[int] = []
    event: dep.DeploymentEvent = dep.Opened()
    for _ in range(num_events):
        for instruction in state.handle(event):
            if isinstance(instruction, dep.MakeCall):
                under_way.append(instruction.rank)
        if rng.random() < 0.02:
            event = dep.Interrupted(WorkerUnreachableError("given up"))
        elif under_way:
            rank = under_way.pop(rng.randrange(len(under_way)))
            is_bad = rng.random() < 0.05
            event = dep.CallFailed(rank, _errors(rng)) if is_bad else dep.CallDone(rank)
        else:
            event = dep.CloseRequested(rng.random() < 0.5)
    return state


def gatherer(rng: random.Random, num_events: int, state: Gatherer | None = None) -> Gatherer:
    state = state or Gatherer(size=3, max_wait_s=1.0, max_in_flight=2, max_waiting=6)
    newest, now_s, batch = 0, 0.0, 1
    for _ in range(num_events):
        now_s += rng.random()
        choice = rng.random()
        if choice < 0.5:
            newest += 1
            _quietly(state.add, newest, now_s, rng.choice([None, now_s + 2.0]))
        elif choice < 0.7:
            together = state.take(now_s)
            batch = together.batch if together else batch
        elif choice < 0.85:
            state.end(rng.randint(max(1, batch - 2), batch))
        else:
            state.drop(rng.randint(max(1, newest - 8), newest + 1))
    return state


def registry(rng: random.Random, num_events: int, state: RegistryState | None = None) -> RegistryState:
    state = state or RegistryState(ttl_s=5.0, max_members=3)
    now_s, ids = 0.0, ["m0"]
    for _ in range(num_events):
        now_s += rng.random()
        choice = rng.random()
        event: reg.RegistryEvent
        if choice < 0.3:
            ids.append(f"m{len(ids)}")
            name = rng.choice("abcde")
            event = reg.Joined(ids[-1], reg.Member(name=name, address=f"{rng.choice('vwxyz')}:1"), now_s)
        elif choice < 0.7:
            event = reg.Renewed(rng.choice(ids[-4:]), now_s)
        elif choice < 0.8:
            event = reg.Left(rng.choice(ids[-4:]))
        else:
            event = reg.Tick(now_s)
        _quietly(state.handle, event)
    return state


def _quietly(function: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(EdgeflowError):
        function(*args)


def _rank(rng: random.Random, num_events: int, state: RankState | None = None) -> RankState:
    return rank_requests(rng, num_events, state)[0]


#: Every machine: a new one, and its walk.
WALKS: Final[dict[type[Machine], tuple[Callable[[], Any], Callable[..., Any]]]] = {
    RankState: (RankState, _rank),
    ClientState: (ClientState, client_requests),
    WorkerState: (lambda: WorkerState(memory_limit_bytes=3000, early_limit_bytes=200), worker),
    led.Ledger: (lambda: led.Ledger(timeout_s=20.0, max_in_flight=2, max_waiting=5), ledger),
    Members: (lambda: Members(["a", "b", "c"], Watch(), 0.0), members),
    DeploymentState: (lambda: DeploymentState([2, 0, 1]), deployment),
    Gatherer: (lambda: Gatherer(size=3, max_wait_s=1.0, max_in_flight=2, max_waiting=6), gatherer),
    RegistryState: (lambda: RegistryState(ttl_s=5.0, max_members=3), registry),
}


def walked(kind: type[Machine], rng: random.Random, num_events: int, *, checkpoint: int) -> Any:
    """Return a machine after a walk, whose journal begins a new chapter after ``checkpoint`` calls."""
    make, walk = WALKS[kind]
    machine = make()
    machine.journal = Journal(machine, checkpoint)
    return walk(rng, num_events, machine)
