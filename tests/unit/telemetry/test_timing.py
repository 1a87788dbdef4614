"""Timing in turn, on a clock that the test moves."""

from __future__ import annotations

from edgeflow.telemetry.timing import Timing, time_in_turn


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rivals_take_turns_and_warming_up_does_not_count() -> None:
    clock, order = Clock(), []
    durations = {"a": iter([9.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 5.0, 5.0, 5.0])}

    def request(name: str) -> None:
        order.append(name)
        clock.now += next(durations[name])

    timings = time_in_turn(
        {"a": lambda: request("a"), "b": lambda: request("b")}, rounds=3, warmup=1, clock=clock
    )

    assert "".join(order) == "abababab"
    assert timings["a"] == Timing(median_s=2.0, min_s=1.0, max_s=3.0, num_requests=3)
    assert timings["b"].median_s == 5.0


def test_every_round_is_reported() -> None:
    seen: list[tuple[int, int]] = []
    time_in_turn(
        {"a": lambda: None}, rounds=2, warmup=1, on_round=lambda done, total: seen.append((done, total))
    )

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_timing_says_its_range() -> None:
    assert str(Timing.of([0.012, 0.010, 0.020])) == "12.0 ms (median of 3; 10.0 ms to 20.0 ms)"
