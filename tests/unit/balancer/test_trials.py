"""Whether a plan is worse than the one before: by what requests took, and not by how many waited."""

from __future__ import annotations

import pytest

from edgeflow.balancer.history import Answered, LatencyHistory
from edgeflow.balancer.observation import Observation
from edgeflow.balancer.trials import Trials
from edgeflow.cluster.cluster import Cluster
from edgeflow.planner import plan as make_plan
from tests.unit.plan.tiny import convs

PLAN = make_plan(convs(3, 3), Cluster.local([1.0], bandwidth="1 Gbit/s"), "single")


def answered(*times_s: tuple[float, float]) -> list[Answered]:
    """What a history makes of requests that began and ended at these times."""
    history = LatencyHistory()
    history.add(
        Observation(kind="request", device="device0", stop_s=stop_s, seconds=stop_s - start_s, expected_s=0.0)
        for start_s, stop_s in times_s
    )
    return list(history.requests)


def one_by_one(seconds: float) -> list[Answered]:
    return answered(*((2.0 * i, 2.0 * i + seconds) for i in range(20)))


def eight_at_a_time(seconds: float) -> list[Answered]:
    """Of a plan that takes ``seconds`` for each, while the others wait."""
    return answered(*(((i - 7) * seconds, (i + 1) * seconds) for i in range(40)))


def test_what_a_request_takes_of_its_own_is_what_it_takes_alone() -> None:
    assert {(item.seconds, round(item.own_s, 9)) for item in one_by_one(0.5)} == {(0.5, 0.5)}
    waited = eight_at_a_time(0.5)[10:]
    assert all(item.own_s == pytest.approx(0.5) and item.seconds == pytest.approx(4.0) for item in waited)


@pytest.mark.parametrize(
    ("before", "after", "is_worse"),
    [
        (one_by_one(0.5), one_by_one(0.6), True),
        (one_by_one(0.5), one_by_one(0.4), False),
        (one_by_one(0.5), eight_at_a_time(0.1), False),  # a queue is worked off
        (one_by_one(0.5), eight_at_a_time(0.6), True),
        (eight_at_a_time(0.1), one_by_one(0.5), False),  # there was one before
        (eight_at_a_time(0.1), one_by_one(0.9), True),
    ],
)
def test_a_plan_is_worse_if_requests_take_longer_and_each_keeps_it_longer(
    before: list[Answered], after: list[Answered], is_worse: bool
) -> None:
    trials = Trials()
    trials.begin(PLAN, "another", requests=before, slowness={})
    assert (trials.judge(after, 100.0) is not None) == is_worse
