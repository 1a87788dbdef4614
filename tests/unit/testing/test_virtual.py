"""Virtual time: one thread at a time, in an order that is the same each time, and a clock that jumps.

What it has in common with real threads is in `tests/unit/test_threads.py`.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from edgeflow.testing.virtual import DeadlockError, VirtualThreads
from edgeflow.threads import Empty


def test_a_year_takes_no_time() -> None:
    threads, started_s = VirtualThreads(start_s=5.0), time.monotonic()
    threads.sleep(365 * 86400.0)
    assert threads.now() == 5.0 + 365 * 86400.0
    assert time.monotonic() - started_s < 5.0


def test_time_stands_still_while_a_thread_runs() -> None:
    threads = VirtualThreads()
    for _ in range(100):
        threads.event().set()
        with threads.lock():
            pass
    assert threads.now() == 0.0


def test_threads_run_in_the_order_of_their_deadlines_and_at_one_time_in_that_of_their_waits() -> None:
    threads = VirtualThreads()
    seen: list[tuple[str, float]] = []

    def sleeper(name: str, seconds: float) -> None:
        threads.sleep(seconds)
        seen.append((name, threads.now()))

    plan = [("d", 3.0), ("a", 1.0), ("b", 1.0), ("c", 2.0)]
    started = [threads.start(lambda n=name, s=s: sleeper(n, s), name=name) for name, s in plan]  # type: ignore[misc]
    for thread in started:
        thread.join()
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 3.0)]


def test_a_thread_does_not_run_before_the_one_that_started_it_waits() -> None:
    threads = VirtualThreads()
    seen: list[str] = []
    thread = threads.start(lambda: seen.append("started"), name="t")
    time.sleep(0)
    seen.append("starting")
    thread.join()
    assert seen == ["starting", "started"]


def test_only_one_thread_runs_at_a_time() -> None:
    threads = VirtualThreads()
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            inside += 1
            most = max(most, inside)
            sum(range(1000))
            inside -= 1
            threads.sleep(0.0)

    started = [threads.start(work, name=f"t{number}") for number in range(4)]
    for thread in started:
        thread.join()
    assert most == 1


def test_sleeping_for_no_time_lets_the_others_run() -> None:
    threads = VirtualThreads()
    seen: list[int] = []
    threads.start(lambda: seen.append(1), name="t")
    threads.sleep(0.0)
    assert seen == [1]
    assert threads.now() == 0.0


def test_waits_end_at_their_deadline() -> None:
    threads = VirtualThreads()
    assert not threads.event().wait(2.5)
    assert threads.now() == 2.5
    with pytest.raises(Empty):
        threads.queue().get(timeout=1.5)
    assert threads.now() == 4.0
    assert not threads.event().wait(-1.0)
    assert threads.now() == 4.0


def test_what_comes_before_the_deadline_ends_the_wait_at_once() -> None:
    threads = VirtualThreads()
    event, queue = threads.event(), threads.queue()

    def come() -> None:
        threads.sleep(1.0)
        event.set()
        threads.sleep(1.0)
        queue.put("item")

    thread = threads.start(come, name="t")
    assert event.wait(100.0) and threads.now() == 1.0
    assert queue.get(timeout=100.0) == "item" and threads.now() == 2.0
    thread.join()
    threads.sleep(1.0)
    assert threads.now() == 3.0  # the deadlines that were not reached move no clock


def test_an_event_that_is_cleared_at_once_has_woken_those_that_waited() -> None:
    """As `threading.Event` does."""
    threads = VirtualThreads()
    event = threads.event()
    woken: list[bool] = []
    thread = threads.start(lambda: woken.append(event.wait()), name="t")
    threads.sleep(0.0)
    event.set()
    event.clear()
    thread.join()
    assert woken == [True]


def test_each_item_of_a_queue_goes_to_one_of_those_that_wait() -> None:
    threads = VirtualThreads()
    queue = threads.queue()
    got: list[int] = []
    started = [threads.start(lambda: got.append(queue.get()), name=f"t{number}") for number in range(3)]
    threads.sleep(1.0)
    for item in (1, 2, 3):
        queue.put(item)
    for thread in started:
        thread.join()
    assert got == [1, 2, 3]


def test_a_contended_lock_is_free_when_its_outermost_block_ends() -> None:
    threads = VirtualThreads()
    lock = threads.lock()
    seen: list[tuple[str, float]] = []

    def work(name: str) -> None:
        with lock:
            with lock:
                threads.sleep(1.0)
            threads.sleep(1.0)
            seen.append((name, threads.now()))

    started = [threads.start(lambda n=name: work(n), name=name) for name in "abc"]  # type: ignore[misc]
    for thread in started:
        thread.join()
    assert seen == [("a", 2.0), ("b", 4.0), ("c", 6.0)]


def test_a_lock_is_freed_when_its_block_raises() -> None:
    threads = VirtualThreads()
    lock = threads.lock()
    with pytest.raises(KeyError), lock:
        raise KeyError
    taken: list[bool] = []

    def take() -> None:
        with lock:
            taken.append(True)

    threads.start(take, name="t").join()
    assert taken == [True]


def test_join_waits_for_the_end_and_returns_at_once_after_it() -> None:
    threads = VirtualThreads()
    thread = threads.start(lambda: threads.sleep(7.0), name="t")
    thread.join()
    assert threads.now() == 7.0
    thread.join()
    assert threads.now() == 7.0


def test_threads_that_wait_for_each_other_are_named() -> None:
    threads = VirtualThreads()
    event = threads.event()
    thread = threads.start(lambda: event.wait() and None, name="thread-of-the-test")
    with pytest.raises(DeadlockError, match="main waits, thread-of-the-test waits"):
        threads.queue().get()
    event.set()
    thread.join()  # once it is told, the test may go on, to clean up for example


def test_a_future_that_nobody_settles_is_a_deadlock() -> None:
    future: Future[int] = Future()
    with pytest.raises(DeadlockError, match="main waits"):
        VirtualThreads().result(future)


def test_a_future_that_is_done_is_not_waited_for() -> None:
    threads = VirtualThreads()
    future: Future[int] = Future()
    future.set_result(3)
    assert threads.result(future) == 3


def test_a_thread_that_is_no_part_of_it_is_told() -> None:
    threads = VirtualThreads()
    said: list[str] = []

    def foreign() -> None:
        try:
            threads.sleep(1.0)
        except AssertionError as error:
            said.append(str(error))

    thread = threading.Thread(target=foreign, name="stranger")
    thread.start()
    thread.join()
    assert said == ["stranger is no thread of this virtual time"]


def test_a_run_is_the_same_each_time() -> None:
    def run() -> list[tuple[int, float]]:
        threads = VirtualThreads()
        queue, seen = threads.queue(), list[tuple[int, float]]()

        def work(number: int) -> None:
            for step in range(5):
                threads.sleep(0.1 * ((number * 7 + step * 3) % 4))
                queue.put((number, threads.now()))

        started = [threads.start(lambda n=n: work(n), name=f"t{n}") for n in range(4)]  # type: ignore[misc]
        for thread in started:
            thread.join()
        while True:
            try:
                seen.append(queue.get(block=False))
            except Empty:
                return seen

    first = run()
    assert len(first) == 20
    assert all(run() == first for _ in range(5))
