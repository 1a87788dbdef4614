"""A program under construction: its buffers and sections, then its instructions with `Free`s and the peak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from edgeflow.plan.claims import Loop, Slot, loops_of, with_lengths
from edgeflow.plan.program import (
    Assemble,
    Buffer,
    Compute,
    Free,
    Instruction,
    Program,
    Receive,
    Send,
    WeightSlice,
)
from edgeflow.sharding.region import Region


@dataclass(slots=True)
class Section:
    """A rank's instructions for one shard or task; sends for later stages are added behind them."""

    before: list[Instruction] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)


class Held(msgspec.Struct, gc=False):
    """A finished region of a tensor in a buffer, and the section that finishes it."""

    buffer: int
    region: Region
    section: Slot


@dataclass(slots=True)
class Machine:
    """A program under construction.

    Attributes:
        held: Tensor -> the regions of it that this rank holds.
        weights: Slices that the kernels read, in the order of first use.
        inner_bytes: Section -> peak of the intermediates inside its kernels.
    """

    rank: int
    buffers: list[Buffer] = field(default_factory=list)
    sections: defaultdict[Slot, Section] = field(default_factory=lambda: defaultdict(Section))
    held: defaultdict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    weights: dict[WeightSlice, None] = field(default_factory=dict)
    inner_bytes: dict[Slot, int] = field(default_factory=dict)

    def add(self, buffer: Buffer) -> int:
        """Add a buffer and return its number."""
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def new_buffer(self, tensor: str, region: Region, dtype: str) -> int:
        return self.add(Buffer(tensor, region, dtype))


def finish(
    machine: Machine, *, inputs: tuple[tuple[str, int], ...], outputs: tuple[tuple[str, int], ...]
) -> Program:
    """Return the program: its sections in order, with each buffer freed after its last use, and its peak."""
    instructions: list[Instruction] = []
    inner: dict[int, int] = {}
    starts: dict[Slot, int] = {}
    for slot in sorted(machine.sections):
        starts[slot] = len(instructions)
        section = machine.sections[slot]
        for instruction in section.before:
            if isinstance(instruction, Compute):
                inner[len(instructions)] = machine.inner_bytes[slot]
            instructions.append(instruction)
        instructions.extend(section.sends)
    kept = {buffer for _, buffer in outputs}
    loops = loops_of(instructions, starts)
    freed, positions, peak = _with_frees(
        instructions, inner, machine.buffers, {buffer for _, buffer in inputs}, kept, loops
    )
    for loop in loops:
        head = positions[loop.head]
        freed[head] = with_lengths(freed[head], [positions[bound] for bound in loop.bounds])
    return Program(
        rank=machine.rank,
        instructions=tuple(freed),
        buffers=tuple(machine.buffers),
        inputs=inputs,
        outputs=outputs,
        weights=tuple(machine.weights),
        peak_bytes=peak,
        has_claims=bool(loops),
    )


#: Kind of instruction -> the buffers that it reads, or writes; other kinds touch none.
_READS: Final[Mapping[type, Callable[[Any], Sequence[int]]]] = {
    Send: lambda send: (send.buffer,) if send.buffer >= 0 else (),
    Assemble: lambda assemble: [part.buffer for part in assemble.parts],
    Compute: lambda compute: [buffer for _, buffer in compute.inputs],
}
_WRITES: Final[Mapping[type, Callable[[Any], Sequence[int]]]] = {
    Receive: lambda receive: (receive.buffer,),
    Assemble: lambda assemble: (assemble.buffer,),
    Compute: lambda compute: [buffer for _, buffer in compute.outputs],
}


def _with_frees(
    instructions: list[Instruction],
    inner_bytes: Mapping[int, int],
    buffers: list[Buffer],
    filled: set[int],
    kept: set[int],
    loops: Sequence[Loop],
) -> tuple[list[Instruction], list[int], int]:
    """Insert a `Free` after each buffer's last use.

    Args:
        inner_bytes: Position of a `Compute` -> peak of the intermediates inside its kernels.
        filled: Buffers that hold something before the first instruction.
        kept: Buffers that are read after the last.

    Returns:
        The instructions; the new position of each old one, then of their end; the peak in bytes.
    """
    sizes = [buffer.num_bytes for buffer in buffers]
    first: dict[int, int] = dict.fromkeys(filled, -1)
    last = dict(first)
    for index, instruction in enumerate(instructions):
        kind = type(instruction)
        if kind in _WRITES:
            for buffer in _WRITES[kind](instruction):
                first.setdefault(buffer, index)
                last[buffer] = index
        if kind in _READS:
            for buffer in _READS[kind](instruction):
                last[buffer] = index
    made: dict[int, list[int]] = {}  # by the first write: a claimant receives into a buffer that it may fill
    for buffer, index in first.items():
        made.setdefault(index, []).append(buffer)
    for loop in loops:
        # Tasks run in any order: a buffer from before the loop stays until the loop ends.
        begin, stop = loop.bounds[0], loop.bounds[-1]
        last |= {
            buffer: stop - 1
            for buffer, index in last.items()
            if begin <= index < stop and first[buffer] < begin
        }
    dying: dict[int, list[int]] = {}
    for buffer, index in last.items():
        if buffer not in kept:
            dying.setdefault(index, []).append(buffer)
    # Inputs that nothing reads: a causal mask, for instance, can hide all of one.
    unread = tuple(sorted(dying.get(-1, ())))
    freed: list[Instruction] = [Free(unread)] if unread else []
    positions: list[int] = []
    peak = alive = sum(sizes[buffer] for buffer in filled)
    alive -= sum(sizes[buffer] for buffer in unread)
    for index, instruction in enumerate(instructions):
        positions.append(len(freed))
        freed.append(instruction)
        if index in inner_bytes:  # these intermediates, outputs included, are alive beside the buffers
            peak = max(peak, alive + inner_bytes[index])
        if index in made:
            alive += sum(sizes[buffer] for buffer in made[index])
            peak = max(peak, alive)
        dead = dying.get(index)
        if dead:
            freed.append(Free(tuple(sorted(dead))))
            alive -= sum(sizes[buffer] for buffer in dead)
    return freed, [*positions, len(freed)], peak
