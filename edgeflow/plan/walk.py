"""The order in which a program's instructions run; pure bookkeeping.

Most programs run from the first instruction to the last. In a program with a `Claim` or a `Dispense`,
arriving frames decide what runs next. The interpreter, the prediction and the simulator all follow this one
walk, so they cannot disagree about which rank runs which task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

from edgeflow.plan.program import (
    Claim,
    Compute,
    Dispense,
    Free,
    Program,
    Receive,
    Send,
    token_receive,
    token_send,
)

#: The next step: the position of an instruction to run; a token to send; the receives of several frames, the
#: first of which to arrive goes to `Walk.choose`; or None, at the end.
Next = int | Send | tuple[Receive, ...] | None


@dataclass(slots=True)
class _Loop:
    """A claim or a dispense that is under way.

    Attributes:
        starts: Positions of the parts behind it, then of the instruction behind them all.
        taken: Of a claim: starts of the tasks that were taken.
        has_asked: Of a claim: whether the next task was asked for.
        served: Of a dispense: number of answers to each claimant.
        told: Of a dispense: claimants that were told that no task is left.
        next_task: Of a dispense: the task to hand out next.
    """

    position: int
    starts: tuple[int, ...]
    taken: set[int] = field(default_factory=set)
    has_asked: bool = False
    served: list[int] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    next_task: int = 0


class Walk:
    """One rank's walk through its program, for one request."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._position = 0
        self._loop: _Loop | None = None
        #: End of the part that runs; from there the walk returns to its loop.
        self._part_stop = -1
        #: Buffers that a `Compute` has filled; a receive into one is skipped.
        self._filled: set[int] = set()

    def next(self) -> Next:
        """Return the next step, and count it as done."""
        while True:
            if self._loop is not None and self._position == self._part_stop:
                self._position, self._part_stop = self._loop.position, -1
            if self._position == len(self._program.instructions):
                return None
            instruction = self._program.instructions[self._position]
            if isinstance(instruction, Claim):
                return self._claim(instruction)
            if isinstance(instruction, Dispense):
                found = self._dispense(instruction)
                if found is None:
                    continue
                return found
            self._position += 1
            if isinstance(instruction, Compute):
                self._filled.update(buffer for _, buffer in instruction.outputs)
            elif isinstance(instruction, Free):
                self._filled.difference_update(instruction.buffers)
            elif isinstance(instruction, Receive) and instruction.buffer in self._filled:
                continue
            return self._position - 1

    def choose(self, receive: Receive) -> None:
        """Go on with ``receive``, whose frame arrived first of those that `next` named last."""
        loop = self._loop
        assert loop is not None
        instruction = self._program.instructions[loop.position]
        if isinstance(instruction, Dispense):
            self._serve(loop, instruction, instruction.claimants.index(receive.peer))
            return
        start = next(start for start in loop.starts if self._program.instructions[start] == receive)
        if start == loop.starts[-1]:
            self._loop, self._position = None, start
            return
        loop.taken.add(start)
        loop.has_asked = False
        self._enter(loop, loop.starts.index(start))

    def _claim(self, claim: Claim) -> Next:
        loop = self._loop_at(claim.lengths)
        if loop.taken and not loop.has_asked:
            loop.has_asked = True
            return token_send(claim.peer, claim.tags[len(loop.taken) - 1], claim.stage)
        starts = [start for start in loop.starts if start not in loop.taken]
        return tuple(cast(Receive, self._program.instructions[start]) for start in starts)

    def _dispense(self, dispense: Dispense) -> Next:
        loop = self._loop_at(dispense.lengths)
        claimants = range(len(dispense.claimants))
        loop.served = loop.served or [0] * len(claimants)
        fresh = next((index for index in claimants if not loop.served[index]), None)
        if fresh is not None:
            self._serve(loop, dispense, fresh)
            return None
        if len(loop.told) == len(claimants):
            self._loop, self._position = None, loop.starts[-1]
            return None
        return tuple(
            token_receive(
                dispense.claimants[index], dispense.tags[index][loop.served[index] - 1], dispense.stage
            )
            for index in claimants
            if index not in loop.told
        )

    def _serve(self, loop: _Loop, dispense: Dispense, index: int) -> None:
        """Go to the part that sends a claimant the next task, or "no task is left"."""
        loop.served[index] += 1
        task, loop.next_task = loop.next_task, min(loop.next_task + 1, dispense.num_tasks)
        if task == dispense.num_tasks:
            loop.told.add(index)
        self._enter(loop, task * len(dispense.claimants) + index)

    def _loop_at(self, lengths: tuple[int, ...]) -> _Loop:
        if self._loop is None:
            starts = tuple(accumulate(lengths, initial=self._position + 1))
            self._loop = _Loop(self._position, starts)
        return self._loop

    def _enter(self, loop: _Loop, part: int) -> None:
        self._position, self._part_stop = loop.starts[part], loop.starts[part + 1]
