"""Threads of the system, and what is built on any threads: the same suite for real and for virtual ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import pytest

from edgeflow.testing.virtual import VirtualThreads
from edgeflow.threads import Crew, Empty, SystemThreads, Threads, side_by_side


@pytest.fixture(params=[SystemThreads, VirtualThreads], ids=["system", "virtual"])
def threads(request: pytest.FixtureRequest) -> Threads:
    made: Threads = request.param()
    return made


def test_time_goes_on_while_a_thread_sleeps(threads: Threads) -> None:
    started_s = threads.now()
    threads.sleep(0.001)
    assert threads.now() - started_s >= 0.001


def test_a_thread_runs_its_function_under_its_name_and_is_waited_for(threads: Threads) -> None:
    names: list[str] = []
    threads.start(lambda: names.append(threading.current_thread().name), name="edgeflow-named").join()
    assert names == ["edgeflow-named"]


def test_a_thread_that_joins_itself_does_not_wait(threads: Threads) -> None:
    known, done = threads.event(), threads.event()
    started = []

    def run() -> None:
        known.wait()
        started[0].join()
        done.set()

    started.append(threads.start(run, name="self"))
    known.set()
    assert done.wait(5.0)


def test_an_event_wakes_all_that_wait_and_stays_set(threads: Threads) -> None:
    event, woken = threads.event(), threads.queue()
    waiting = [threads.start(lambda: woken.put(event.wait(5.0)), name="waiting") for _ in range(3)]
    assert not event.is_set()
    event.set()
    for thread in waiting:
        thread.join()
    assert [woken.get() for _ in range(3)] == [True] * 3
    assert event.is_set() and event.wait(0.0)
    event.clear()
    assert not event.is_set() and not event.wait(0.001)


def test_a_queue_is_in_order_and_says_when_it_is_empty(threads: Threads) -> None:
    queue = threads.queue()
    for item in (1, 2, 3):
        queue.put(item)
    assert [queue.get(), queue.get(timeout=1.0), queue.get(block=False)] == [1, 2, 3]
    for get in (partial(queue.get, block=False), partial(queue.get, timeout=0.001)):
        with pytest.raises(Empty):
            get()


def test_a_queue_waits_for_what_another_thread_puts(threads: Threads) -> None:
    queue = threads.queue()
    thread = threads.start(lambda: queue.put("late"), name="putting")
    assert queue.get(timeout=5.0) == "late"
    thread.join()


def test_a_lock_may_be_taken_again_by_its_owner_and_by_nobody_else(threads: Threads) -> None:
    lock, inside, steps = threads.lock(), threads.event(), threads.queue()

    def other() -> None:
        inside.wait()
        with lock:
            steps.put("other")

    thread = threads.start(other, name="other")
    with lock:
        with lock:
            inside.set()
            threads.sleep(0.001)
        threads.sleep(0.001)
        steps.put("owner")
    thread.join()
    assert [steps.get(), steps.get()] == ["owner", "other"]


def test_the_result_of_a_future_and_what_it_failed_with(threads: Threads) -> None:
    good: Future[int] = Future()
    bad: Future[int] = Future()

    def settle() -> None:
        good.set_result(5)
        bad.set_exception(KeyError("x"))

    thread = threads.start(settle, name="settling")
    assert threads.result(good) == 5
    with pytest.raises(KeyError):
        threads.result(bad)
    thread.join()


def test_functions_run_side_by_side(threads: Threads) -> None:
    """Each waits for the other: one after another they would never end."""
    first, second = threads.event(), threads.event()
    seen: list[bool] = []

    def one() -> None:
        first.set()
        seen.append(second.wait(5.0))

    def two() -> None:
        second.set()
        seen.append(first.wait(5.0))

    side_by_side(threads, [one, two], name="pair")
    assert seen == [True, True]
    side_by_side(threads, [], name="nobody")


def test_a_crew_is_waited_for_together(threads: Threads) -> None:
    crew, done = Crew(threads, "crew"), threads.queue()

    def work(number: int) -> None:
        threads.sleep(0.001 * number)
        done.put(number)

    for number in (3, 1, 2):
        crew.start(partial(work, number))
    crew.join()
    assert {done.get(block=False) for _ in range(3)} == {1, 2, 3}
    crew.join()  # nobody is left


def test_a_member_of_a_crew_may_start_and_leave_others_to_be_joined(threads: Threads) -> None:
    crew, done = Crew(threads, "crew"), threads.queue()
    crew.start(lambda: crew.start(lambda: done.put(1)))
    crew.join()
    crew.join()
    assert done.get(timeout=5.0) == 1


def test_a_member_that_raises_is_forgotten_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is reported as that of any thread; the crew goes on."""
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    threads = SystemThreads()
    crew, done = Crew(threads, "crew"), threads.queue()

    def fail() -> None:
        raise KeyError("x")

    jobs: list[Callable[[], None]] = [fail, lambda: done.put(1)]
    for job in jobs:
        crew.start(job)
    crew.join()
    assert done.get(block=False) == 1
    assert reported == [KeyError]
    assert not crew._running
