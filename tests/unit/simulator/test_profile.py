"""Work under a rate that changes: by hand, and against a sum of many small steps."""

from __future__ import annotations

from random import Random

import pytest

from edgeflow.errors import ConfigError
from edgeflow.simulator.profile import Profile, TraceEndedError


def test_work_takes_longer_while_the_rate_is_low() -> None:
    profile = Profile([0.0, 10.0, 20.0], [1.0, 0.5, 2.0])

    assert profile.finish(0.0, 4.0) == 4.0
    assert profile.finish(11.0, 2.0) == 15.0
    # 2 s of work until 10, then 5 more in the ten slow seconds, then 3 at double speed.
    assert profile.finish(8.0, 10.0) == pytest.approx(21.5)
    assert profile.finish(100.0, 10.0) == 105.0
    assert profile.finish(3.0, 0.0) == 3.0


def test_nothing_moves_while_the_rate_is_zero() -> None:
    profile = Profile([0.0, 1.0, 5.0], [1.0, 0.0, 1.0])

    assert profile.finish(0.5, 1.0) == pytest.approx(5.5)
    assert profile.finish(2.0, 1e-9) == pytest.approx(5.0)
    assert profile.factor(2.0) == 0.0


def test_a_trace_may_begin_again() -> None:
    profile = Profile([0.0, 1.0], [1.0, 3.0], end_s=2.0, is_repeated=True)

    # Four seconds of work every two seconds.
    assert profile.finish(0.0, 4.0) == pytest.approx(2.0)
    assert profile.finish(0.0, 41.0) == pytest.approx(21.0)
    assert profile.finish(101.5, 1.5) == pytest.approx(102.0)
    assert profile.finish(101.5, 2.0) == pytest.approx(102.5)
    assert profile.factor(101.5) == 3.0


def test_a_trace_that_ends_says_when() -> None:
    profile = Profile([0.0, 1.0], [1.0, 0.5], end_s=3.0, name="medium:wifi")

    assert profile.finish(0.0, 2.0) == pytest.approx(3.0)
    with pytest.raises(TraceEndedError, match=r"the trace of medium:wifi ended at 3 s") as caught:
        profile.finish(0.0, 2.1)
    assert caught.value.end_s == 3.0
    with pytest.raises(TraceEndedError):
        profile.finish(3.5, 0.1)
    with pytest.raises(TraceEndedError):
        profile.factor(3.0)


def test_a_repeated_trace_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="always zero"):
        Profile([0.0], [0.0], end_s=1.0, is_repeated=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_integral_of_the_rate_is_the_work(seed: int) -> None:
    rng = Random(seed)
    times = [0.0]
    while len(times) < 6:
        times.append(times[-1] + rng.uniform(0.1, 2.0))
    factors = [rng.choice([0.0, 0.1, 1.0, 2.5]) for _ in times[:-1]] + [1.0]
    is_repeated = rng.random() < 0.5
    profile = Profile(
        times, factors, end_s=times[-1] + 1.0 if is_repeated else float("inf"), is_repeated=is_repeated
    )
    start_s, seconds = rng.uniform(0.0, 12.0), rng.uniform(0.0, 9.0)

    stop_s = profile.finish(start_s, seconds)

    count = 20_000
    step_s = (stop_s - start_s) / count
    done = sum(profile.factor(start_s + (index + 0.5) * step_s) for index in range(count)) * step_s
    assert done == pytest.approx(seconds, abs=0.02)
