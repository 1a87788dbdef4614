"""The order of simultaneous events, and what is left at the end."""

from __future__ import annotations

from edgeflow.simulator.clock import FIRST, Clock, Happening, transfer_order


def test_at_one_moment_ranks_come_first_then_transfers_by_request_and_tag() -> None:
    clock, seen = Clock(), []
    calls = (lambda happening: seen.append(happening.what),)
    for order, what in (
        (transfer_order(1, 0), "request 1, tag 0"),
        (transfer_order(0, 7), "request 0, tag 7"),
        (transfer_order(0, 3), "request 0, tag 3"),
        (FIRST, "rank"),
    ):
        clock.at(2.0, Happening(calls, order, what))
    clock.at(1.0, Happening(calls, transfer_order(9, 9), "earlier"))

    clock.run()

    assert seen == ["earlier", "rank", "request 0, tag 3", "request 0, tag 7", "request 1, tag 0"]
    assert clock.now == 2.0


def test_finish_ends_the_work_and_drops_the_calls() -> None:
    clock, seen = Clock(), []
    clock.at(3.0, Happening((lambda happening: seen.append(happening.what),), FIRST, "work"))
    clock.call(1.0, seen.append, "call")
    clock.call(5.0, seen.append, "late call")

    assert clock.finish() == 3.0
    assert seen == ["work"]
