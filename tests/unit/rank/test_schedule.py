"""Which request runs next: by hand, and by random interleavings that must never get stuck."""

from __future__ import annotations

import random

import pytest

from edgeflow.rank.schedule import Arrival, Begin, Continue, FrameKey, Schedule

A, B = FrameKey(peer=0, tag=1), FrameKey(peer=2, tag=5)


def make(**options: int) -> Schedule:
    return Schedule(frozenset({A, B}), **options)


def test_a_request_begins_with_its_first_frame() -> None:
    schedule = make()
    assert schedule.next() is None
    assert schedule.arrive(1, A, 10) is Arrival.KEEP
    assert schedule.next() == Begin(1)
    assert schedule.next() is None


def test_a_request_goes_on_when_what_it_waits_for_is_there() -> None:
    schedule = make()
    schedule.arrive(1, A, 10)
    schedule.next()
    schedule.wait(1, (B,))
    assert schedule.waits_for(1) == {B}
    assert schedule.next() is None
    schedule.arrive(1, B, 10)
    assert schedule.next() == Continue(1, B)
    schedule.wait(1, (A,))
    assert schedule.next() == Continue(1, A)


def test_while_one_waits_the_next_begins_and_the_lower_goes_on_first() -> None:
    schedule = make(max_active=2)
    for request_id in (2, 1):
        schedule.arrive(request_id, A, 10)
    assert schedule.next() == Begin(1)
    schedule.wait(1, (B,))
    assert schedule.next() == Begin(2)
    schedule.wait(2, (A,))
    schedule.arrive(1, B, 10)
    assert schedule.next() == Continue(1, B)
    assert schedule.next() == Continue(2, A)


def test_no_more_than_max_active_begin() -> None:
    schedule = make(max_active=1)
    schedule.arrive(1, A, 10)
    schedule.arrive(2, A, 10)
    assert schedule.next() == Begin(1)
    schedule.wait(1, (B,))
    assert schedule.next() is None
    schedule.end(1)
    assert schedule.next() == Begin(2)


def test_the_lowest_may_always_begin_so_that_ranks_cannot_block_each_other() -> None:
    schedule = make(max_active=1)
    schedule.arrive(2, A, 10)
    assert schedule.next() == Begin(2)
    schedule.wait(2, (B,))
    schedule.arrive(1, A, 10)
    assert schedule.next() == Begin(1)


@pytest.mark.parametrize(
    ("request_id", "frame", "arrival"),
    [
        (1, A, Arrival.DUPLICATE),
        (1, FrameKey(0, 5), Arrival.UNEXPECTED),
        (7, A, Arrival.LATE),
        (8, A, Arrival.KEEP),
    ],
)
def test_what_becomes_of_a_frame(request_id: int, frame: FrameKey, arrival: Arrival) -> None:
    schedule = make()
    schedule.arrive(1, A, 10)
    schedule.end(7)
    assert schedule.arrive(request_id, frame, 10) is arrival


def test_a_frame_that_was_given_is_still_known() -> None:
    schedule = make()
    schedule.arrive(1, A, 10)
    schedule.next()
    schedule.wait(1, (A,))
    schedule.next()
    assert schedule.arrive(1, A, 10) is Arrival.DUPLICATE


def test_frames_of_requests_that_have_not_begun_are_bounded() -> None:
    schedule = make(early_limit_bytes=100)
    assert schedule.arrive(1, A, 1000) is Arrival.KEEP  # alone: it is about to begin
    schedule.next()
    assert schedule.early_bytes == 0
    assert schedule.arrive(2, A, 60) is Arrival.KEEP
    assert schedule.arrive(3, A, 60) is Arrival.OVERLOADED
    assert schedule.arrive(3, A, 40) is Arrival.KEEP
    assert schedule.early_bytes == 100
    assert schedule.arrive(1, B, 1000) is Arrival.KEEP  # it has begun: bounded by its program
    schedule.end(2)
    assert schedule.early_bytes == 40
    schedule.end(3)
    assert schedule.early_bytes == 0


def test_ended_requests_are_remembered_without_end() -> None:
    schedule = make()
    for request_id in range(10_000):
        schedule.end(request_id)
    assert all(schedule.has_ended(request_id) for request_id in (0, 5_000, 9_999))
    assert not schedule.has_ended(10_000)
    assert len(schedule._ended) < 10_000


@pytest.mark.parametrize("seed", range(200))
def test_random_interleavings_of_three_ranks_always_end(seed: int) -> None:
    """Three ranks, random programs, few slots, requests that meet the ranks in any order: nothing hangs.

    Every program is a list of sends and receives taken from one global order, as lowered plans are.
    """
    draw = random.Random(seed)
    transfers = [draw.sample(range(3), 2) for _ in range(6)]
    programs: list[list[tuple[str, int, int]]] = [[], [], []]
    for tag, (source, target) in enumerate(transfers):
        programs[source].append(("send", target, tag))
        programs[target].append(("receive", source, tag))
    starts = [rank for rank in range(3) if programs[rank] and programs[rank][0][0] == "send"]
    receives = [
        frozenset({FrameKey(peer, tag) for kind, peer, tag in program if kind == "receive"})
        | ({FrameKey(-1, 100)} if rank in starts else frozenset())
        for rank, program in enumerate(programs)
    ]
    schedules = [Schedule(receives[rank], max_active=draw.randint(1, 3)) for rank in range(3)]
    positions: dict[tuple[int, int], int] = {}
    flying = [(rank, request, FrameKey(-1, 100)) for request in range(8) for rank in starts]
    while True:
        busy = False
        for rank, schedule in enumerate(schedules):
            job = schedule.next()
            if job is None:
                continue
            busy = True
            key = (rank, job.request_id)
            position = positions.get(key, 0) + isinstance(job, Continue)
            while position < len(programs[rank]) and programs[rank][position][0] == "send":
                _, peer, tag = programs[rank][position]
                flying.append((peer, job.request_id, FrameKey(rank, tag)))
                position += 1
            positions[key] = position
            if position == len(programs[rank]):
                schedule.end(job.request_id)
            else:
                _, peer, tag = programs[rank][position]
                schedule.wait(job.request_id, (FrameKey(peer, tag),))
        if flying:
            busy = True
            rank, request, frame = flying.pop(draw.randrange(len(flying)))
            schedules[rank].arrive(request, frame, 1)
        if not busy:
            break
    for rank, program in enumerate(programs):
        if program:
            assert [positions[rank, request] for request in range(8)] == [len(program)] * 8
