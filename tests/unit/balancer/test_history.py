"""How soon a device that is rationed is seen to be slower."""

from __future__ import annotations

import random

import pytest

from edgeflow.balancer.history import LatencyHistory
from edgeflow.balancer.observation import Observation

#: The device stands still for the first two thirds of each period.
PERIOD_S, STILL_S = 0.03, 0.02


def rationed_s(start_s: float, work_s: float) -> float:
    """How long a piece of work takes that begins at ``start_s``."""
    now_s = start_s
    while work_s > 1e-6:
        phase_s = now_s % PERIOD_S
        if phase_s < STILL_S - 1e-6:
            now_s += STILL_S - phase_s
        else:
            step_s = min(work_s, max(1e-6, PERIOD_S - phase_s))
            now_s, work_s = now_s + step_s, work_s - step_s
    return now_s - start_s


@pytest.mark.parametrize("seed", range(8))
def test_a_few_slow_requests_tell_although_each_of_their_kernels_is_quick_or_very_slow(seed: int) -> None:
    chance, history = random.Random(seed), LatencyHistory()
    sizes_s = [0.004 + 0.001 * index for index in range(16)]
    for request in range(36):
        is_rationed = request >= 30
        now_s = 0.5 * request + PERIOD_S * chance.random()
        for work_s in sizes_s:
            noisy_s = work_s * chance.lognormvariate(0, 0.08)
            taken_s = rationed_s(now_s, noisy_s) if is_rationed else noisy_s
            now_s += taken_s
            history.add([
                Observation(
                    kind="compute",
                    device="d",
                    stop_s=now_s,
                    seconds=taken_s,
                    expected_s=work_s,
                    families={"conv": work_s},
                )
            ])  # fmt: skip
            now_s += 0.004 * chance.random()
        if request == 29:
            before = history.estimate("d")
    after = history.estimate("d")

    assert before is not None
    assert before.ratio == pytest.approx(1.0, abs=0.1)
    assert after is not None
    assert 2.5 < after.ratio < 4.0
    assert after.error < 0.2
    assert after.families["conv"] == pytest.approx(after.ratio)
