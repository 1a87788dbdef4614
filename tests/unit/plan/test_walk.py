"""The order in which instructions run: straight through, or where arriving frames lead."""

from __future__ import annotations

from edgeflow.plan.program import CLIENT, Receive, Send
from edgeflow.plan.walk import Walk
from tests.unit.plan.tiny import claimed, mlp, plan, stage, whole


def test_most_programs_run_straight_through() -> None:
    made = plan(mlp(), stage("all", [op.name for op in mlp().operators], whole(mlp(), "relu_1", 0)))

    for program in made.programs.values():
        walk = Walk(program)
        assert [walk.next() for _ in program.instructions] == list(range(len(program.instructions)))
        assert walk.next() is None


def test_a_receive_is_skipped_where_the_task_ran_here() -> None:
    """Rank 1 collects the results: it receives only those of tasks that rank 0 ran."""
    program = claimed(2, 0, 1, collector=1).programs[1]
    received = []
    for first in (0, 1):
        walk = Walk(program)
        offered = walk.next()
        assert isinstance(offered, tuple)
        walk.choose(offered[first])
        count = 0
        while (step := walk.next()) is not None:
            if isinstance(step, tuple):
                walk.choose(step[-1])  # no task is left
            elif isinstance(step, int):
                item = program.instructions[step]
                count += isinstance(item, Receive) and item.tensor == "conv2d_1"
        received.append(count)
    assert received == [1, 1]


def test_a_walk_goes_where_frames_send_it() -> None:
    made = claimed(2, 0, 1)
    program = made.programs[1]
    walk = Walk(program)

    offered = walk.next()
    assert isinstance(offered, tuple)
    assert len(offered) == 3  # two tasks, and "no task is left"
    walk.choose(offered[1])
    seen = []
    while isinstance(position := walk.next(), int):
        seen.append(program.instructions[position])
    assert seen[0] == offered[1]
    assert next(item for item in seen if isinstance(item, Send)).peer == 0
    assert isinstance(position, Send)  # it asks for the next one
    assert walk.next() == (offered[0], offered[2])
    walk.choose(offered[2])
    assert program.instructions[walk.next()] == offered[2]  # type: ignore[index]


def test_the_client_hands_out_each_task_once() -> None:
    program = claimed(3, 0, 1).programs[CLIENT]
    walk = Walk(program)
    handed: list[tuple[int, str, int]] = []

    def sends() -> tuple[Receive, ...]:
        while isinstance(position := walk.next(), int):
            item = program.instructions[position]
            if isinstance(item, Send):
                handed.append(
                    (item.peer, item.tensor, item.region[2].start if item.tensor == "input" else -1)
                )
        assert isinstance(position, tuple)
        return position

    asked = sends()
    assert [peer for peer, _, _ in handed] == [0, 1]  # the first task comes unasked
    walk.choose(asked[1])
    asked = sends()
    walk.choose(asked[1])
    asked = sends()
    assert [(peer, tensor) for peer, tensor, _ in handed[2:]] == [(1, "input"), (1, "task")]
    assert {item.peer for item in asked} == {0}  # rank 1 was told that no task is left, and asks no more
