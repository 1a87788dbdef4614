"""The probe: the mean duration of one product, over the whole time."""

from __future__ import annotations

import pytest

from edgeflow.worker import probe


class Clock:
    """Each look at it takes a step."""

    def __init__(self, *steps_s: float) -> None:
        self._steps_s = [*steps_s]
        self.now_s = 100.0

    def monotonic(self) -> float:
        now_s = self.now_s
        self.now_s += self._steps_s.pop(0)
        return now_s


def test_the_probe_is_a_mean_and_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is rationed is fast at first, and stands still then."""
    monkeypatch.setattr(probe, "time", Clock(0.1, 0.1, 0.7, 9.9))
    assert probe.probe_s(0.5) == pytest.approx(0.9 / 3)


def test_one_product_is_made_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "time", Clock(0.25, 9.9))
    assert probe.probe_s(0.0) == pytest.approx(0.25)


def test_a_probe_of_a_worker_is_bounded_and_at_its_emulated_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeflow.worker import worker

    asked: list[float] = []

    def fake(duration_s: float) -> float:
        asked.append(duration_s)
        return 0.01

    monkeypatch.setattr(worker, "probe_s", fake)
    slow = worker.Worker.__new__(worker.Worker)
    slow.speed = 0.25
    assert slow.probe(1e9) == pytest.approx(0.04)
    assert asked == [probe.MAX_PROBE_S]
