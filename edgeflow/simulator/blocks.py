"""Prepare programs for the virtual clock: instructions that run without waiting form one block.

A rank waits only at a receive. So a program is a few blocks, each of which begins with a receive, and one
event per block gives the same times as one per instruction. If tasks are claimed, the frames that arrive
decide the blocks (`Course`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from edgeflow.cluster.network import Hop
from edgeflow.cost.model import CostModel
from edgeflow.plan.program import (
    CLIENT,
    Claim,
    Compute,
    Dispense,
    Free,
    Instruction,
    Program,
    Receive,
    Send,
    shared_stages,
)
from edgeflow.plan.walk import Walk
from edgeflow.simulator.conditions import Conditions


@dataclass(frozen=True, slots=True)
class Frame:
    """A prepared send.

    Attributes:
        source, destination: Positions of the ranks in `Script.ranks`.
        hops: Empty if both ranks are on one host.
        local_s: Duration if both ranks are on one host, else 0.
        idle_s: Duration on an idle network.
    """

    tag: int
    num_bytes: int
    source: int
    destination: int
    hops: tuple[Hop, ...]
    local_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction that takes time or sends."""

    instruction: Instruction
    seconds: float
    frame: Frame | None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Instructions that follow each other without waiting.

    Attributes:
        waits_for: Tag of the frame that it waits for; -1 if it begins at once.
        choices: If not empty, this block runs nothing: the first of these frames to arrive decides which
            block replaces it.
        then: The next block; None for the last one. If tasks are claimed, the course chooses it instead.
        runs: Seconds of consecutive instructions, and the frame sent after them, if any. They are added one
            by one, as the prediction adds them, so that both agree to the last bit.
        processor_s, compute_s: Seconds of all instructions, and of kernels alone.
        flops: FLOPs of the kernels.
    """

    waits_for: int
    runs: tuple[tuple[tuple[float, ...], Frame | None], ...]
    processor_s: float
    compute_s: float
    flops: int
    steps: tuple[Step, ...]
    choices: frozenset[int] = frozenset()
    then: Block | None = None

    @property
    def begins_at_once(self) -> bool:
        return self.waits_for < 0 and not self.choices


class Course:
    """The sequence of blocks of one rank for one request, if its tasks are claimed.

    Args:
        steps: The step of each instruction; None for an instruction that takes no time.
        tokens: Tag -> the step that sends this frame without content.
    """

    def __init__(self, program: Program, steps: Sequence[Step | None], tokens: Mapping[int, Step]) -> None:
        self._walk = Walk(program)
        self._steps = steps
        self._tokens = tokens
        self._ahead = self._walk.next()

    def next(self) -> Block | None:
        """Return the next block, and count it as done; None at the end."""
        steps: list[Step] = []
        while True:
            ahead = self._ahead
            if isinstance(ahead, int):
                step = self._steps[ahead]
                if step is not None and isinstance(step.instruction, Receive) and steps:
                    break
            elif isinstance(ahead, Send):
                step = self._tokens[ahead.tag]
            else:
                break
            if step is not None:
                steps.append(step)
            self._ahead = self._walk.next()
        if not steps and self._ahead is None:
            return None
        if not steps:
            assert isinstance(self._ahead, tuple)
            return replace(_block(()), choices=frozenset(item.tag for item in self._ahead))
        return _block(steps)

    def choose(self, tag: int) -> Block | None:
        """Return the block that follows if the frame ``tag`` was first of the last block's choices."""
        assert isinstance(self._ahead, tuple)
        self._walk.choose(next(item for item in self._ahead if item.tag == tag))
        self._ahead = self._walk.next()
        return self.next()


@dataclass(frozen=True, slots=True)
class Script:
    """One way to answer a request.

    Attributes:
        ranks: Participating ranks of the whole cluster; the client, -1, first.
        blocks: For each of them, its first block.
        courses: For each, a factory of a request's course if it claims or hands out tasks, else None.
        peak_bytes: For each, most bytes of its buffers for one request.
        latency_s, period_s: Predicted latency on an idle cluster, and predicted time between two answers.
    """

    ranks: tuple[int, ...]
    blocks: tuple[Block, ...]
    courses: tuple[Callable[[], Course] | None, ...]
    peak_bytes: tuple[int, ...]
    latency_s: float
    period_s: float


def script_of(
    programs: Mapping[int, Program],
    ranks: Sequence[int],
    cost: CostModel,
    conditions: Conditions,
    *,
    latency_s: float,
    period_s: float,
) -> Script:
    """Prepare lowered programs.

    Args:
        programs: Programs of a plan for a part of the cluster.
        ranks: Rank in that part -> rank in the whole cluster.
        cost: Costs on the whole cluster.
    """
    everyone = sorted(programs)
    assert everyone[0] == CLIENT
    whole = {rank: rank if rank == CLIENT else ranks[rank] for rank in everyone}
    position = {rank: index for index, rank in enumerate(everyone)}
    shared = shared_stages(programs)
    blocks: list[Block] = []
    courses: list[Callable[[], Course] | None] = []
    for rank in everyone:
        program = programs[rank]

        def step(item: Instruction, rank: int = rank, program: Program = program) -> Step | None:
            if isinstance(item, Free | Claim | Dispense):
                return None
            seconds = cost.instruction_s(whole[rank], item, program, shared)
            return Step(item, seconds, _frame(whole[rank], item, program, conditions, position, whole))

        steps = [step(item) for item in program.instructions]
        if program.has_claims:
            asks = {item.tag: found for item in program.sends if item.buffer < 0 and (found := step(item))}
            courses.append(partial(Course, program, steps, asks))
            first = Course(program, steps, asks).next()
            assert first is not None
            blocks.append(first)
        else:
            courses.append(None)
            blocks.append(_chained([item for item in steps if item is not None]))
    return Script(
        ranks=tuple(whole[rank] for rank in everyone),
        blocks=tuple(blocks),
        courses=tuple(courses),
        peak_bytes=tuple(programs[rank].peak_bytes for rank in everyone),
        latency_s=latency_s,
        period_s=period_s,
    )


def _frame(
    rank: int,
    instruction: Instruction,
    program: Program,
    conditions: Conditions,
    position: Mapping[int, int],
    whole: Mapping[int, int],
) -> Frame | None:
    """Return the frame that an instruction sends; None if it sends nothing."""
    if not isinstance(instruction, Send):
        return None
    path = conditions.path(rank, whole[instruction.peer])
    idle_s = path.seconds(instruction.num_bytes)
    return Frame(
        tag=instruction.tag,
        num_bytes=instruction.num_bytes,
        source=position[program.rank],
        destination=position[instruction.peer],
        hops=path.hops,
        local_s=idle_s if path.is_local else 0.0,
        idle_s=idle_s,
    )


def _chained(steps: Sequence[Step]) -> Block:
    """Return the first block of a program without claims, chained to the blocks after it."""
    starts = [index for index, step in enumerate(steps) if isinstance(step.instruction, Receive)]
    if not starts or starts[0] > 0:
        starts.insert(0, 0)
    block: Block | None = None
    for start, stop in reversed(list(pairwise([*starts, len(steps)]))):
        block = _block(steps[start:stop], block)
    assert block is not None
    return block


def _block(steps: Sequence[Step], then: Block | None = None) -> Block:
    runs: list[tuple[tuple[float, ...], Frame | None]] = []
    seconds: list[float] = []
    for step in steps:
        seconds.append(step.seconds)
        if step.frame is not None:
            runs.append((tuple(seconds), step.frame))
            seconds = []
    runs.append((tuple(seconds), None))
    first = steps[0].instruction if steps else None
    return Block(
        waits_for=first.tag if isinstance(first, Receive) else -1,
        runs=tuple(runs),
        processor_s=sum(step.seconds for step in steps),
        compute_s=sum(step.seconds for step in steps if isinstance(step.instruction, Compute)),
        flops=sum(step.instruction.flops for step in steps if isinstance(step.instruction, Compute)),
        steps=tuple(steps),
        then=then,
    )
