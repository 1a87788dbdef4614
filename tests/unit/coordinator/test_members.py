"""Who is there: pings heard and missed, restarts, pairs that lose each other; the time is passed in."""

from __future__ import annotations

from edgeflow.coordinator.members import (
    CLIENT_END,
    Apart,
    Joined,
    Lost,
    Members,
    SetAside,
    Watch,
)

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
    assert made.strike("b", "a", 0.0) is None
    assert made.apart(0.0) == ()
    assert made.strike("a", "b", 1.0) == Apart("a", "b")
    assert made.strike("a", "b", 1.5) == Apart("a", "b")  # of what was under way: no longer for that
    assert made.apart(1.5) == (("a", "b"),)
    assert made.apart(17.0) == ()
    assert made.strike("a", "b", 20.0) == Apart("a", "b")  # tried again, and lost again
    assert made.apart(45.0) == (("a", "b"),) and made.apart(51.0) == ()
    assert made.strike("a", "c", 100.0) is None and made.strike("a", "c", 200.0) is None  # long ago


def test_a_pair_whose_packets_go_nowhere_is_kept_apart_at_once() -> None:
    made = members("a", "b", "c")
    assert made.strike("a", "b", 0.0, is_certain=True) == Apart("a", "b")
    assert made.apart(0.0) == (("a", "b"),)


def test_a_worker_that_two_others_lose_is_set_aside_and_its_links_are_not() -> None:
    made = members("a", "b", "c")
    assert made.strike("a", "c", 0.0, is_certain=True) == Apart("a", "c")
    assert made.strike("b", "c", 3.0, is_certain=True) == SetAside("c")
    assert made.usable(3.0) == ("a", "b") and made.apart(3.0) == ()
    assert made.strike("a", "b", 4.0) is None  # what c has caused is not held against the others
    assert made.usable(18.5) == ("a", "b", "c")


def test_two_links_of_a_worker_that_fail_long_after_each_other_are_two_links() -> None:
    made = members("a", "b", "c")
    made.strike("a", "c", 0.0, is_certain=True)
    assert made.strike("b", "c", 45.0, is_certain=True) == Apart("b", "c")


def test_a_worker_that_the_client_loses_twice_is_set_aside() -> None:
    made = members("a", "b")
    assert made.strike("a", CLIENT_END, 0.0, is_certain=True) is None
    assert made.strike("a", CLIENT_END, 1.0) == SetAside("a")
    assert made.usable(1.0) == ("b",)


def test_a_worker_that_failed_after_it_was_tried_again_rests_for_longer_each_time() -> None:
    made = members("a", "b")
    made.strike("a", CLIENT_END, 0.0)
    made.strike("a", CLIENT_END, 0.0)
    assert made.rested(14.9) == () and made.rested(15.1) == ("a",) and made.rested(15.2) == ()
    assert made.strike("b", "a", 16.0) == SetAside("a")  # once is enough now
    assert made.usable(45.0) == ("b",) and made.usable(46.1) == ("a", "b")
    assert made.strike("a", CLIENT_END, 400.0) is None  # it was good for long enough


def test_whose_link_has_rested_is_said_once() -> None:
    made = members("a", "b", "c")
    made.strike("a", "b", 0.0, is_certain=True)
    made.lost("b", "gone")
    assert made.rested(10.0) == ()
    assert made.rested(16.0) == ("a",)  # b is not there
    assert made.rested(17.0) == ()


def test_who_is_set_aside_is_better_than_nobody() -> None:
    made = members("a", "b")
    made.strike("a", CLIENT_END, 0.0)
    made.strike("a", CLIENT_END, 0.0)
    made.lost("b", "gone")
    assert made.usable(1.0) == ("a",)


def test_another_process_begins_without_blame() -> None:
    made = members("a", "b")
    made.heard("a", "x", 0.0)
    made.strike("a", CLIENT_END, 0.0)
    made.strike("a", CLIENT_END, 0.0)
    made.heard("a", "y", 5.0)
    assert made.usable(5.0) == ("a", "b")
    assert made.strike("a", CLIENT_END, 5.5) is None  # what the process before had begun
    assert made.strike("a", CLIENT_END, 8.0) is None
    assert made.strike("a", CLIENT_END, 9.0) == SetAside("a")


def test_an_answer_may_come_as_late_as_a_loss_is_declared() -> None:
    made = members()
    made.heard("a", "x", 10.0)
    timeout_s = made.ping_timeout_s("a", 10.5)
    assert WATCH.lost_after_s - 0.5 <= timeout_s < WATCH.lost_after_s
    assert made.missed("a", "no answer", 10.5 + timeout_s)
    assert made.ping_timeout_s("a", 13.0) == WATCH.ping_timeout_s


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


def test_a_ping_that_waits_behind_frames_is_not_missed() -> None:
    made = members()
    assert made.missed("a", "no answer", 3.0, is_carrying=True) == []
    assert made.missed("a", "no answer", 4.0) == []
    assert [type(change) for change in made.missed("a", "no answer", 5.0)] == [Lost]
