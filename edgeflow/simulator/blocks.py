"""Programs made ready for the clock: what runs without waiting is one block, with the moments of its sends.

A rank waits only where a program receives. So a program is a few blocks, each begun by a receive, and one
event a block is enough where one an instruction would give the same times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeflow.cluster.network import Hop
from edgeflow.cost.model import CostModel
from edgeflow.plan.program import CLIENT, Compute, Free, Instruction, Program, Receive, Send
from edgeflow.simulator.conditions import Conditions


@dataclass(frozen=True, slots=True)
class Frame:
    """A send, ready to go.

    Attributes:
        source, destination: Positions of the ranks in `Script.ranks`.
        hops: Empty if both are on one host.
        local_s: How long it takes then.
        idle_s: How long it takes on an idle network.
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
    """One instruction that takes time, or sends."""

    instruction: Instruction
    seconds: float
    frame: Frame | None


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that follow each other without waiting.

    Attributes:
        waits_for: Tag of the frame that it begins with; -1 if it begins at once.
        runs: Seconds of instructions one after the other, and the frame that is sent behind them, if any.
            They are added one by one, as the prediction adds them, so that both agree to the last bit.
        processor_s, compute_s: Sums: of all, and of kernels alone.
        flops: Operations of the kernels.
    """

    waits_for: int
    runs: tuple[tuple[tuple[float, ...], Frame | None], ...]
    processor_s: float
    compute_s: float
    flops: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """One way to answer a request.

    Attributes:
        ranks: Ranks of the whole cluster that take part; the client, -1, first.
        blocks: For each of them, its program.
        begins_at_once: For each, whether it has something to do before its first frame arrives.
        peak_bytes: For each, what its buffers take for one request.
        latency_s, period_s: Predicted: of a request on an idle cluster, and between two answers.
    """

    ranks: tuple[int, ...]
    blocks: tuple[tuple[Block, ...], ...]
    begins_at_once: tuple[bool, ...]
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
        programs: Of a plan on a part of the cluster.
        ranks: Rank in that part -> rank in the whole cluster.
        cost: Costs on the whole cluster.
    """
    everyone = sorted(programs)
    assert everyone[0] == CLIENT
    whole = {rank: rank if rank == CLIENT else ranks[rank] for rank in everyone}
    position = {rank: index for index, rank in enumerate(everyone)}
    blocks = []
    for rank in everyone:
        steps = [
            _step(whole[rank], item, programs[rank], cost, conditions, position, whole)
            for item in programs[rank].instructions
            if not isinstance(item, Free)
        ]
        blocks.append(tuple(_blocks(steps)))
    return Script(
        ranks=tuple(whole[rank] for rank in everyone),
        blocks=tuple(blocks),
        begins_at_once=tuple(not mine or mine[0].waits_for < 0 for mine in blocks),
        peak_bytes=tuple(programs[rank].peak_bytes for rank in everyone),
        latency_s=latency_s,
        period_s=period_s,
    )


def _step(
    rank: int,
    instruction: Instruction,
    program: Program,
    cost: CostModel,
    conditions: Conditions,
    position: Mapping[int, int],
    whole: Mapping[int, int],
) -> Step:
    frame = None
    if isinstance(instruction, Send):
        path = conditions.path(rank, whole[instruction.peer])
        idle_s = path.seconds(instruction.num_bytes)
        frame = Frame(
            tag=instruction.tag,
            num_bytes=instruction.num_bytes,
            source=position[program.rank],
            destination=position[instruction.peer],
            hops=path.hops,
            local_s=idle_s if path.is_local else 0.0,
            idle_s=idle_s,
        )
    return Step(instruction, cost.instruction_s(rank, instruction, program), frame)


def _blocks(steps: Sequence[Step]) -> list[Block]:
    starts = [index for index, step in enumerate(steps) if isinstance(step.instruction, Receive)]
    if not starts or starts[0] > 0:
        starts.insert(0, 0)
    return [_block(steps[start:stop]) for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True)]


def _block(steps: Sequence[Step]) -> Block:
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
        flops=sum(_flops(step.instruction) for step in steps),
        steps=tuple(steps),
    )


def _flops(instruction: Instruction) -> int:
    if not isinstance(instruction, Compute):
        return 0
    return sum(kernel.flops for kernel in instruction.kernels)
