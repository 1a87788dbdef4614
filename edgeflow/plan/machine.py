"""A program under construction: its buffers and sections, put in order and freed of what is done with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, cast

import msgspec

from edgeflow.plan.program import (
    Assemble,
    Buffer,
    Claim,
    Compute,
    Dispense,
    Free,
    Instruction,
    Program,
    Receive,
    Send,
    WeightSlice,
)
from edgeflow.sharding.region import Region

#: Where a section stands in a program: the stage, and which of the device's shards in it.
Slot = tuple[int, int]


@dataclass(slots=True)
class Section:
    """One device's instructions in one stage; sends that later stages ask for are added behind."""

    before: list[Instruction] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)


class Held(msgspec.Struct, gc=False):
    """A finished region of a tensor in a buffer, and the section after which it can be sent."""

    buffer: int
    region: Region
    section: Slot


@dataclass(slots=True)
class Machine:
    """A program under construction."""

    rank: int
    buffers: list[Buffer] = field(default_factory=list)
    sections: defaultdict[Slot, Section] = field(default_factory=lambda: defaultdict(Section))
    held: defaultdict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    weights: dict[WeightSlice, None] = field(default_factory=dict)
    inner_bytes: dict[Slot, int] = field(default_factory=dict)
    has_claims: bool = False

    def new_buffer(self, tensor: str, region: Region, dtype: str) -> int:
        self.buffers.append(Buffer(tensor, region, dtype))
        return len(self.buffers) - 1


def finish(
    machine: Machine, *, inputs: tuple[tuple[str, int], ...], outputs: tuple[tuple[str, int], ...]
) -> Program:
    """Return the program: section after section, each buffer freed after its last use, and the peak known."""
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
    loops = _loops(instructions, starts) if machine.has_claims else []
    freed, positions, peak = _with_frees(
        instructions, inner, machine.buffers, {buffer for _, buffer in inputs}, kept, loops
    )
    for loop in loops:
        freed[positions[loop[0] - 1]] = _with_lengths(freed[positions[loop[0] - 1]], loop, positions)
    return Program(
        rank=machine.rank,
        instructions=tuple(freed),
        buffers=tuple(machine.buffers),
        inputs=inputs,
        outputs=outputs,
        weights=tuple(machine.weights),
        peak_bytes=peak,
        has_claims=machine.has_claims,
    )


def _loops(instructions: Sequence[Instruction], starts: Mapping[Slot, int]) -> list[list[int]]:
    """Of each claim and dispense: where the parts behind it begin, and where the last one ends."""
    by_position = {start: slot for slot, start in starts.items()}
    found = []
    for position, item in enumerate(instructions):
        if isinstance(item, Claim | Dispense):
            index, first = by_position[position]
            parts = [starts[index, first + 1 + part] for part in range(len(item.lengths))]
            after = [start for start in starts.values() if start > parts[-1]]
            found.append([*parts, min(after, default=len(instructions))])
    return found


def _with_lengths(item: Instruction, loop: Sequence[int], positions: Sequence[int]) -> Instruction:
    """``positions``: where each instruction stands in the program, and where that ends."""
    bounds = [positions[start] for start in loop]
    lengths = tuple(stop - start for start, stop in pairwise(bounds))
    return msgspec.structs.replace(cast(Claim, item), lengths=lengths)


#: The buffers that instructions read and write, by their kind; the other kinds touch none.
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
    loops: Sequence[Sequence[int]],
) -> tuple[list[Instruction], list[int], int]:
    """Insert a `Free` after each buffer's last use.

    Returns:
        The instructions; where each one stands among them, and where they end; the peak in bytes.
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
    made: dict[int, list[int]] = {}  # what is received may have been made here: the first time counts
    for buffer, index in first.items():
        made.setdefault(index, []).append(buffer)
    for bounds in loops:
        # Tasks are handed out in any order, so what was there before them stays until all are.
        begin, stop = bounds[0], bounds[-1]
        last |= {
            buffer: stop - 1
            for buffer, index in last.items()
            if begin <= index < stop and first[buffer] < begin
        }
    dying: dict[int, list[int]] = {}
    for buffer, index in last.items():
        if buffer not in kept:
            dying.setdefault(index, []).append(buffer)
    # An input that nothing reads: a causal mask, for instance, can hide all of it.
    unread = tuple(sorted(dying.get(-1, ())))
    freed: list[Instruction] = [Free(unread)] if unread else []
    positions: list[int] = []
    peak = alive = sum(sizes[buffer] for buffer in filled)
    alive -= sum(sizes[buffer] for buffer in unread)
    for index, instruction in enumerate(instructions):
        positions.append(len(freed))
        freed.append(instruction)
        if index in inner_bytes:  # a kernel's own intermediates are alive beside the buffers, its outputs too
            peak = max(peak, alive + inner_bytes[index])
        if index in made:
            alive += sum(sizes[buffer] for buffer in made[index])
            peak = max(peak, alive)
        dead = dying.get(index)
        if dead:
            freed.append(Free(tuple(sorted(dead))))
            alive -= sum(sizes[buffer] for buffer in dead)
    return freed, [*positions, len(freed)], peak
