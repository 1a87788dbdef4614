"""Journals of state machines: what is recorded, how much is kept, and when a machine checks itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeflow.errors import ConfigError, EdgeflowError, PeerLostError
from edgeflow.machine import Journal, Machine, Raised, Word, recorded, without_traceback


class Added(Word, frozen=True):
    name: str
    amount: int


class Troubled(Word, frozen=True, gc=True):
    error: Exception


class Counting(Machine):
    """Counts; it also raises what it is told to."""

    def __init__(self) -> None:
        self.total = 0
        self.names: list[str] = []
        self.num_validated = 0
        self.is_broken = False

    @recorded
    def add(self, event: Added) -> int:
        self.total += event.amount
        self.names.append(event.name)
        return self.total

    @recorded
    def add_twice(self, event: Added) -> int:
        self.add(event)
        return self.add(event)

    @recorded
    def fail(self, error: Exception, *, why: str = "") -> None:
        raise error

    @recorded
    def trouble(self, event: Troubled) -> list[Troubled]:
        return [event]

    def validate(self) -> None:
        self.num_validated += 1
        assert not self.is_broken, "the state contradicts itself"


@pytest.fixture
def defects(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Machine]]:
    """The machines that `on_defect` is told of."""
    found: list[Machine] = []
    monkeypatch.setattr(Machine, "on_defect", found.append)
    yield found


def test_a_call_is_recorded_with_its_arguments_and_its_outcome() -> None:
    machine = Counting()
    machine.add(Added("a", 2))
    assert machine.add(event=Added("b", 3)) == 5
    first, second = machine.journal.calls
    assert (first.method, first.args, first.kwargs, first.outcome) == ("add", (Added("a", 2),), {}, 2)
    assert (second.args, second.kwargs, second.outcome) == ((), {"event": Added("b", 3)}, 5)


def test_the_journal_starts_with_the_state_that_its_first_call_met() -> None:
    machine = Counting()
    machine.total = 7
    machine.add(Added("a", 1))
    assert machine.journal.start["total"] == 7
    assert machine.journal.start["names"] == []  # a copy: what came later is not in it
    assert "journal" not in machine.journal.start


@pytest.mark.parametrize("num_calls", [1, 4, 5, 8, 9, 50])
def test_the_journal_holds_at_least_one_chapter_and_at_most_two(num_calls: int) -> None:
    machine = Counting()
    machine.journal = Journal(machine, checkpoint=4)
    for number in range(num_calls):
        machine.add(Added("a", number))
    calls = machine.journal.calls
    assert min(num_calls, 4) <= len(calls) <= 8
    amounts = [call.args[0].amount for call in calls]
    assert amounts == list(range(num_calls - len(calls), num_calls))
    assert machine.journal.start["total"] == sum(range(num_calls - len(calls)))


def test_the_story_is_the_calls_that_name_a_key_at_any_depth() -> None:
    machine = Counting()
    for name, amount in (("a", 1), ("b", 22), ("a", 333), ("c", 4)):
        machine.add(Added(name, amount))
    assert [call.args[0].amount for call in machine.journal.story("a")] == [1, 333]
    assert [call.args[0].name for call in machine.journal.story(22)] == ["b"]
    assert [call.args[0].name for call in machine.journal.story("c", 22)] == ["b", "c"]
    assert [call.outcome for call in machine.journal.story(360)] == [360]  # outcomes count as well
    assert machine.journal.story("nobody") == []


def test_a_recorded_call_within_another_is_part_of_it() -> None:
    machine = Counting()
    machine.add_twice(Added("a", 1))
    machine.add(Added("b", 1))
    assert [call.method for call in machine.journal.calls] == ["add_twice", "add"]


def test_a_call_that_raises_is_recorded_and_the_next_one_too() -> None:
    machine = Counting()
    with pytest.raises(ConfigError, match="no"):
        machine.fail(ConfigError("no"), why="a test")
    machine.add(Added("a", 1))
    failed, added = machine.journal.calls
    assert failed.kwargs == {"why": "a test"}
    assert isinstance(failed.outcome, Raised) and str(failed.outcome.error) == "no"
    assert added.outcome == 1


def test_errors_are_kept_without_their_frames() -> None:
    """A traceback keeps the buffers of every frame alive."""
    machine = Counting()
    try:
        raise PeerLostError("gone", rank=1, peer=2)
    except PeerLostError as caught:
        error = caught
    returned = machine.trouble(Troubled(error))
    with pytest.raises(PeerLostError):
        machine.fail(error)
    troubled, failed = machine.journal.calls
    kept = [troubled.args[0].error, troubled.outcome[0].error, failed.outcome.error]
    for each in kept:
        assert each is not error and each.__traceback__ is None
        assert isinstance(each, PeerLostError) and (str(each), each.rank, each.peer) == ("gone", 1, 2)
    assert returned[0].error is error and error.__traceback__ is not None  # the caller's own is as it was


def test_an_error_that_cannot_be_copied_is_kept_by_name() -> None:
    class Picky(Exception):
        def __new__(cls, *args: object) -> Picky:
            if args != (1, 2):
                raise TypeError("two arguments")
            return super().__new__(cls, *args)

        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    copied = without_traceback(Picky(1, 2))
    assert type(copied) is RuntimeError
    assert str(copied) == "Picky: 1 and 2"


def test_the_machine_checks_itself_after_each_outermost_call(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Counting()
    machine.add_twice(Added("a", 1))
    assert machine.num_validated == 1
    machine.is_broken = True
    with pytest.raises(AssertionError, match="contradicts itself"):
        machine.add(Added("a", 1))
    monkeypatch.setattr(Machine, "is_validating", False)
    machine.add(Added("a", 1))


def test_only_errors_that_are_not_edgeflows_are_defects(defects: list[Machine]) -> None:
    machine = Counting()
    for refusal in (EdgeflowError("no"), ConfigError("no")):
        with pytest.raises(EdgeflowError):
            machine.fail(refusal)
    assert defects == []
    with pytest.raises(KeyError):
        machine.fail(KeyError("a"))
    assert defects == [machine]
    assert isinstance(machine.journal.calls[-1].outcome.error, KeyError)  # it is in the journal by then
