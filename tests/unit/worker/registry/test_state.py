"""Who is there: events in, instructions out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow.errors import WorkerOverloadedError
from edgeflow.worker.registry.state import (
    Joined,
    Left,
    Member,
    RegistryState,
    Renewed,
    TellJoined,
    TellLeft,
    Tick,
)

PI = Member(name="pi4", address="pi4:7070")
NUC = Member(name="nuc", address="nuc:7070")


@pytest.fixture
def state() -> RegistryState:
    state = RegistryState(ttl_s=8.0)
    state.handle(Joined("a", PI, 0.0))
    return state


def test_a_member_that_is_heard_of_stays(state: RegistryState) -> None:
    for now_s in (5.0, 10.0, 15.0):
        state.handle(Renewed("a", now_s))
        assert state.handle(Tick(now_s + 2)) == []
    assert state.members == (PI,)


def test_a_member_that_is_silent_has_left(state: RegistryState) -> None:
    assert state.handle(Tick(8.0)) == []
    assert state.handle(Tick(9.0)) == [TellLeft(PI, "not heard of for 9.0 s")]
    assert not state.is_known("a") and state.handle(Tick(20.0)) == []


def test_a_member_that_says_so_has_left_once(state: RegistryState) -> None:
    assert state.handle(Left("a")) == [TellLeft(PI, "it said so")]
    assert state.handle(Left("a")) == []


def test_a_device_that_was_started_again_takes_its_own_place(state: RegistryState) -> None:
    again = Member(name="pi4", address="pi4:9999")
    assert state.handle(Joined("b", again, 1.0)) == [
        TellLeft(PI, "another one took its place"),
        TellJoined(again),
    ]
    assert state.members == (again,)
    # The one before does not keep it alive, nor end it.
    state.handle(Renewed("a", 100.0))
    assert state.handle(Left("a")) == []


def test_members_are_bounded_but_may_be_replaced() -> None:
    state = RegistryState(ttl_s=8.0, max_members=1)
    state.handle(Joined("a", PI, 0.0))
    with pytest.raises(WorkerOverloadedError, match="at most 1"):
        state.handle(Joined("b", NUC, 0.0))
    assert state.members == (PI,)
    state.handle(Joined("c", Member(name="pi4", address="x:1"), 0.0))


@given(
    st.lists(
        st.tuples(st.sampled_from("jrlt"), st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 9)),
        max_size=40,
    )
)
def test_whoever_is_told_knows_who_is_there(events: list[tuple[str, str, str, int]]) -> None:
    """A listener that adds on joins and removes on leaves has the members, whatever happens."""
    state, known, now_s = RegistryState(ttl_s=8.0), {}, 0.0
    for kind, member_id, name, step in events:
        now_s += step
        event = {
            "j": Joined(f"{member_id}{now_s}", Member(name=name, address=f"{member_id}:1"), now_s),
            "r": Renewed(f"{member_id}{now_s - step}", now_s),
            "l": Left(f"{member_id}{now_s - step}"),
            "t": Tick(now_s),
        }[kind]
        for instruction in state.handle(event):
            if isinstance(instruction, TellJoined):
                assert instruction.member.name not in known
                known[instruction.member.name] = instruction.member
            else:
                assert known.pop(instruction.member.name) == instruction.member
        assert state.members == tuple(sorted(known.values(), key=lambda m: m.name))
