"""Requests under random events of several epochs: each ends once, and nothing is kept after it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.walks import rank_requests


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(1, 250))
def test_every_request_ends_once_and_nothing_is_kept_after_it(seed: int, num_events: int) -> None:
    """The machine checks itself after each event, too."""
    state, world = rank_requests(random.Random(seed), num_events)
    world.check_ended()
    assert state.epochs == frozenset()
    assert not any(state.pending(epoch) for epoch in range(20))


def test_the_events_reach_every_outcome() -> None:
    """Else the test above would say little."""
    worlds = [rank_requests(random.Random(seed), 250)[1] for seed in range(20)]
    for what in ("begun", "finished", "failed", "dropped"):
        assert sum(getattr(world, what).total() for world in worlds) > 30, what
    without = sum((world.dropped - world.finished - world.failed).total() for world in worlds)
    assert without > 30


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_that_forgets_to_drop_is_found(seed: int) -> None:
    _, world = rank_requests(random.Random(seed), 250)
    world.check_ended()
    world.dropped.popitem()
    with pytest.raises(AssertionError):
        world.check_ended()
