"""Tasks that are claimed while a stage runs, as instructions: their sections, tags and lengths.

Behind a `Claim` stand one section per task and one that receives the frame "no task is left". Behind the
client's `Dispense` stand one section per task and claimant, in that order, and one per claimant that sends
this frame. This module writes them; `edgeflow.plan.walk` interprets them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from edgeflow.plan.program import (
    CLIENT,
    TOKEN,
    TOKEN_DTYPE,
    Buffer,
    Claim,
    Dispense,
    Instruction,
    Receive,
    Send,
    token_receive,
    token_send,
)
from edgeflow.plan.stage import Stage

#: A section of a program: (position of the stage, position of the section in the stage).
Slot = tuple[int, int]

#: A buffer for the frame that ends a claim, which a receive needs like any other.
END_BUFFER = Buffer("task", TOKEN, TOKEN_DTYPE)


class Tasks(NamedTuple):
    """The tasks of one stage.

    Attributes:
        position: Of the stage in the plan.
        asks: Claimant -> tags of the frames with which it asks for a task, in order.
        ends: Claimant -> tag of the frame that tells it that no task is left.
    """

    position: int
    stage: Stage
    asks: Mapping[int, tuple[int, ...]]
    ends: Mapping[int, int]

    @staticmethod
    def of(position: int, stage: Stage, new_tag: Callable[[], int]) -> Tasks:
        """Return the tasks of a stage, with tags of their own."""
        asks = {rank: tuple(new_tag() for _ in stage.shards) for rank in stage.claimants}
        return Tasks(position, stage, asks, {rank: new_tag() for rank in stage.claimants})

    @property
    def head_slot(self) -> Slot:
        """The section of the `Claim` or `Dispense`."""
        return self.position, 0

    def task_slot(self, task: int) -> Slot:
        """The claimants' section that runs a task."""
        return self.position, 1 + task

    @property
    def end_slot(self) -> Slot:
        """The claimants' section behind all tasks."""
        return self.task_slot(len(self.stage.shards))

    def send_slot(self, task: int, rank: int) -> Slot:
        """The client's section that sends a claimant the inputs of a task."""
        return self.position, 1 + task * len(self.stage.claimants) + self.stage.claimants.index(rank)

    def send_end_slot(self, rank: int) -> Slot:
        """The client's section that tells a claimant that no task is left."""
        return self.send_slot(len(self.stage.shards), rank)

    def claim(self, rank: int) -> Claim:
        """Return the claim of a rank; `with_lengths` fills in its lengths."""
        lengths = (0,) * len(self.stage.shards)
        return Claim(stage=self.stage.name, peer=CLIENT, tags=self.asks[rank], lengths=lengths)

    def receive_end(self, rank: int, buffer: int) -> Receive:
        found = token_receive(CLIENT, self.ends[rank], self.stage.name)
        return msgspec.structs.replace(found, buffer=buffer)

    def dispense(self) -> Dispense:
        """Return the client's instruction; `with_lengths` fills in its lengths."""
        claimants = self.stage.claimants
        return Dispense(
            stage=self.stage.name,
            claimants=claimants,
            tags=tuple(self.asks[rank] for rank in claimants),
            lengths=(0,) * (len(claimants) * (len(self.stage.shards) + 1)),
        )

    def send_end(self, rank: int) -> Send:
        return token_send(rank, self.ends[rank], self.stage.name)


class Loop(NamedTuple):
    """A `Claim` or `Dispense` among instructions.

    Attributes:
        head: Its position.
        bounds: Where each part behind it begins, and where the last part ends.
    """

    head: int
    bounds: tuple[int, ...]


def loops_of(instructions: Sequence[Instruction], starts: Mapping[Slot, int]) -> list[Loop]:
    """Return the loops among instructions, given the position at which each section starts."""
    by_position = {start: slot for slot, start in starts.items()}
    found = []
    for head, item in enumerate(instructions):
        if isinstance(item, Claim | Dispense):
            index, first = by_position[head]
            parts = [starts[index, first + 1 + part] for part in range(len(item.lengths))]
            stop = min((start for start in starts.values() if start > parts[-1]), default=len(instructions))
            found.append(Loop(head, (*parts, stop)))
    return found


def with_lengths(item: Instruction, bounds: Sequence[int]) -> Instruction:
    """Return a `Claim` or `Dispense` with the lengths of its parts, which lie between ``bounds``."""
    assert isinstance(item, Claim | Dispense)
    return msgspec.structs.replace(item, lengths=tuple(stop - start for start, stop in pairwise(bounds)))
