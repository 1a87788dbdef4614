"""Who is there: pings heard and missed, restarts, pairs that lose each other; the time is passed in."""

from __future__ import annotations

from edgeflow.runtime.coordinator.members import Joined, Lost, Members, Watch

WATCH = Watch(interval_s=0.5, lost_after_s=2.0, max_back_off_s=3.0)


def members(*names: str) -> Members:
    return Members(names or ("a", "b"), WATCH, 0.0)


def test_one_missed_ping_is_nothing_and_silence_is_a_loss() -> None:
    made = members()
    assert made.heard("a", "x", 1.0) == []
    assert made.missed("a", "no answer", 2.0) == []
    (lost,) = made.missed("a", "no answer", 3.0)
    assert isinstance(lost, Lost) and lost.device == "a" and "2.0 s: no answer" in lost.reason
    assert made.missed("a", "no answer", 4.0) == []
    assert made.usable(4.0) == ("b",)


def test_a_lost_worker_joins_when_it_is_heard_again() -> None:
    made = members()
    made.lost("a", "gone")
    assert made.lost("a", "gone") == []
    assert made.heard("a", "x", 5.0) == [Joined("a")]
    assert made.usable(5.0) == ("a", "b")


def test_another_process_at_the_same_address_holds_nothing() -> None:
    made = members()
    made.heard("a", "x", 1.0)
    assert made.heard("a", "y", 1.5) == [Lost("a", "its process was restarted"), Joined("a")]
    assert made.heard("a", "y", 2.0) == []


def test_who_is_lost_is_asked_less_and_less_often() -> None:
    made = members()
    made.lost("a", "gone")
    waits = []
    for number in range(6):
        waits.append(made.wait_s("a"))
        made.missed("a", "refused", float(number))
    assert waits[0] <= 0.6 and waits[-1] > 2.0
    assert max(waits) <= 3.0 * 1.2


def test_a_pair_that_loses_each_other_twice_is_kept_apart_for_a_while_that_doubles() -> None:
    made = members("a", "b", "c")
    assert not made.strike("b", "a", 0.0)
    assert made.apart(0.0) == ()
    assert made.strike("a", "b", 1.0)
    assert made.apart(1.0) == (("a", "b"),)
    assert made.apart(17.0) == ()
    made.strike("a", "b", 20.0)
    assert made.strike("a", "b", 20.0)
    assert made.apart(45.0) == (("a", "b"),) and made.apart(51.0) == ()
    assert not made.strike("a", "c", 100.0) and not made.strike("a", "c", 200.0)  # long ago


def test_an_unfit_worker_rests() -> None:
    made = members()
    made.unfit("a", 1.0, 10.0)
    assert made.usable(5.0) == ("b",) and made.is_up("a")
    assert made.usable(11.0) == ("a", "b")


def test_a_new_device_is_not_there_until_it_is_heard() -> None:
    made = members("a")
    made.add("c", 1.0)
    assert made.usable(1.0) == ("a",)
    assert made.heard("c", "z", 2.0) == [Joined("c")]
