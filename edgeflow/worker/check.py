"""Reads and checks a program from the network, before any of it is trusted.

A program that passes can be run without surprises: every buffer is written before it is read and freed at
most once, every region lies where it should, every operator is on the allow-list, and nothing that it names
is larger than the worker's memory. The temporary tensors inside a kernel are not bounded by this.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

import msgspec

from edgeflow.errors import CodecError, ConfigError, WorkerOverloadedError
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.net.transport.routes import check_address
from edgeflow.net.wire import MAX_NDIM
from edgeflow.plan.encoding import ENCODED_DTYPE, check_encoding
from edgeflow.plan.program import (
    CLIENT,
    Assemble,
    Buffer,
    Claim,
    Compute,
    Dispense,
    Free,
    Instruction,
    Kernel,
    Program,
    Receive,
    Send,
)
from edgeflow.sharding.cut import Literal, LocalValue, Result, Step, iter_slices
from edgeflow.sharding.region import Region
from edgeflow.worker.allowlist import check_steps

#: Bound of dims, tags and ranks: far above real values, and safe to multiply.
MAX_INDEX: Final = 1 << 31


#: Arguments that alone determine how many elements a result has.
_SIZES: Final = frozenset({"size", "shape", "repeats", "output_size", "steps", "num_classes", "n", "m", "N"})


def decode_program(data: bytes) -> Program:
    """Decode a program as `edgeflow.plan.program.encode` writes it.

    Raises:
        CodecError: If the bytes are not a program. `check_program` checks what it says.
    """
    try:
        return msgspec.json.decode(data, type=Program)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"program: {error}") from error


def check_program(program: Program, *, rank: int, peers: Mapping[int, str], memory_limit_bytes: int) -> None:
    """Check a program from the network.

    Args:
        rank: The rank that this worker is to have.
        peers: Rank -> address of the workers that take part.
        memory_limit_bytes: What the worker may use.

    Raises:
        ConfigError: If the program breaks its own contract; the message says where.
        UnsupportedOperatorError: If it calls an operator that is not on the allow-list.
        WorkerOverloadedError: If it could never fit into the worker's memory.
    """
    if program.rank != rank or not 0 <= rank < MAX_INDEX:
        raise ConfigError(f"program: it is for rank {program.rank}, this worker is to be rank {rank}")
    if program.inputs or program.outputs:
        raise ConfigError("program: only the client's has inputs and outputs")
    for index, buffer in enumerate(program.buffers):
        _check_region(buffer.region, buffer.dtype, f"buffer {index}")
    for weight in program.weights:
        _check_region(weight.region, weight.dtype, f"weight {weight.tensor!r}")
    if len({(item.tensor, item.region) for item in program.weights}) != len(program.weights):
        raise ConfigError("program: a weight slice is named twice")
    for address in peers.values():
        check_address(address)
    _check_memory(program, memory_limit_bytes)
    _Walk(program, known_ranks={CLIENT, *peers} - {rank}, max_elements=memory_limit_bytes).run()
    if buffer_bytes(program) > memory_limit_bytes:
        raise WorkerOverloadedError(
            f"program: its buffers take {buffer_bytes(program):,} bytes at once, "
            f"the worker may use {memory_limit_bytes:,}"
        )


def num_bytes(item: Buffer) -> int:
    """Return the size of a buffer or a weight slice."""
    return item.region.num_elements * NUMPY_DTYPES[item.dtype].itemsize


def weight_bytes(program: Program) -> int:
    return sum(w.region.num_elements * NUMPY_DTYPES[w.dtype].itemsize for w in program.weights)


def buffer_bytes(program: Program) -> int:
    """Return the most bytes of buffers alive at once, or the program's own figure if that is larger."""
    alive: dict[int, int] = {}
    # A running sum: the check of a long program from a stranger must not take quadratic time.
    total, peak = 0, program.peak_bytes
    for instruction in program.instructions:
        if isinstance(instruction, Free):
            total -= sum(alive.pop(index, 0) for index in instruction.buffers)
        for index in writes(instruction):
            total -= alive.get(index, 0)
            alive[index] = num_bytes(program.buffers[index])
            total += alive[index]
        peak = max(peak, total)
    return peak


def peers_of(program: Program) -> frozenset[int]:
    """Return the ranks that a program exchanges frames with."""
    return frozenset(
        [item.peer for item in program.sends] + [peer for item in program.receives for peer in item.peers]
    )


def writes(instruction: Instruction) -> tuple[int, ...]:
    """Return the buffers that an instruction writes."""
    match instruction:
        case Receive(buffer=buffer) | Assemble(buffer=buffer):
            return (buffer,)
        case Compute(outputs=outputs):
            return tuple(buffer for _, buffer in outputs)
    return ()


def _check_region(region: Region, dtype: str, where: str) -> None:
    if dtype not in NUMPY_DTYPES:
        raise ConfigError(f"program: {where}: unknown dtype {dtype!r}")
    if len(region) > MAX_NDIM:
        raise ConfigError(f"program: {where}: {len(region)} dims, at most {MAX_NDIM}")
    if any(not 0 <= start <= stop <= MAX_INDEX for start, stop in region.intervals):
        raise ConfigError(f"program: {where}: region {region} is not made of intervals 0 <= start <= stop")


def _check_memory(program: Program, limit_bytes: int) -> None:
    largest = max((num_bytes(buffer) for buffer in program.buffers), default=0)
    if largest > limit_bytes:
        raise WorkerOverloadedError(
            f"program: a buffer of {largest:,} bytes, the worker may use {limit_bytes:,}"
        )
    if weight_bytes(program) > limit_bytes:
        raise WorkerOverloadedError(
            f"program: weights of {weight_bytes(program):,} bytes, the worker may use {limit_bytes:,}"
        )


class _Walk:
    """Walks through a program in order and keeps track of which buffers hold something."""

    def __init__(self, program: Program, *, known_ranks: set[int], max_elements: int) -> None:
        self._program = program
        self._max_elements = max_elements
        self._known_ranks = known_ranks
        self._weights = {(item.tensor, item.region) for item in program.weights}
        self._filled: set[int] = set()
        self._frames: set[tuple[type, int, int]] = set()

    def run(self) -> None:
        #: Where the tasks of a claim end, and what was filled before them.
        ends: list[int] = []
        before: set[int] = set()
        for index, instruction in enumerate(self._program.instructions):
            where = f"instruction {index}"
            if ends and index == ends[0]:
                # It is not known which tasks run here: no buffer may be read that only one of them writes,
                # and none may be freed that others read.
                if not before <= self._filled:
                    raise ConfigError(
                        f"program: {where}: a task frees a buffer that was filled before the task"
                    )
                self._filled = set(before)
                del ends[0]
            match instruction:
                case Claim():
                    if ends:
                        raise ConfigError(f"program: {where}: a claim within the tasks of another")
                    self._claim(index, instruction, where)
                    ends = list(accumulate(instruction.lengths, initial=index + 1))[1:]
                    before = set(self._filled)
                case Dispense():
                    raise ConfigError(f"program: {where}: only the client hands out tasks")
                case Receive() | Send():
                    self._transfer(instruction, where)
                case Assemble():
                    self._assemble(instruction, where)
                case Compute():
                    self._compute(instruction, where)
                case Free(buffers):
                    for buffer in buffers:
                        self._read(buffer, where)
                        self._filled.discard(buffer)
            for buffer in writes(instruction):
                self._write(buffer, where)

    def _claim(self, index: int, item: Claim, where: str) -> None:
        """Check that every task begins with a receive, and that a receive follows the last one."""
        instructions = self._program.instructions
        starts = list(accumulate(item.lengths, initial=index + 1))
        if min(item.lengths, default=0) < 1 or len(item.tags) != len(item.lengths):
            raise ConfigError(
                f"program: {where}: {len(item.lengths)} tasks of {list(item.lengths)} instructions, "
                f"{len(item.tags)} frames to ask for them"
            )
        if starts[-1] >= len(instructions) or not all(
            isinstance(instructions[start], Receive) for start in starts
        ):
            raise ConfigError(f"program: {where}: a task, or what follows the tasks, begins with no receive")
        for tag in item.tags:
            self._frame(Send, item.peer, tag, where)

    def _frame(self, kind: type, peer: int, tag: int, where: str) -> None:
        if peer not in self._known_ranks:
            raise ConfigError(f"program: {where}: rank {peer} does not take part")
        if (kind, peer, tag) in self._frames or not 0 <= tag < MAX_INDEX:
            raise ConfigError(f"program: {where}: frame {tag} with rank {peer} is named twice")
        self._frames.add((kind, peer, tag))

    def _transfer(self, item: Receive | Send, where: str) -> None:
        for peer in item.peers if isinstance(item, Receive) else (item.peer,):
            self._frame(type(item), peer, item.tag, where)
        buffer = self._buffer(item.buffer, where)
        _check_region(item.region, item.dtype, where)
        check_encoding(item.encoding)
        if item.encoding and item.dtype != ENCODED_DTYPE:
            raise ConfigError(f"program: {where}: {item.dtype} cannot be sent as {item.encoding}")
        if isinstance(item, Send):
            self._read(item.buffer, where)
            self._check_within(item.region, buffer, where)
        if item.dtype != buffer.dtype or (isinstance(item, Receive) and item.region != buffer.region):
            raise ConfigError(
                f"program: {where}: {item.dtype}{item.region} does not fit its buffer of "
                f"{buffer.dtype}{buffer.region}"
            )

    def _assemble(self, item: Assemble, where: str) -> None:
        target = self._buffer(item.buffer, where)
        if item.region != target.region or item.dtype != target.dtype:
            raise ConfigError(f"program: {where}: {item.region} does not fit its buffer of {target.region}")
        for part in item.parts:
            _check_region(part.region, item.dtype, where)
            self._read(part.buffer, where)
            self._check_within(part.region, self._buffer(part.buffer, where), where)
            self._check_within(part.region, target, where)

    def _compute(self, item: Compute, where: str) -> None:
        held: dict[str, Region] = {}
        for name, index in item.inputs:
            self._read(index, where)
            held[name] = self._buffer(index, where).region
        for kernel in item.kernels:
            self._kernel(kernel, held, f"{where}, operator {kernel.operator!r}")
            held.update((name, region) for name, region in kernel.outputs if name)
        for name, index in item.outputs:
            if name not in held or not _contains(held[name], self._buffer(index, where).region):
                raise ConfigError(f"program: {where}: no kernel makes what buffer {index} holds of {name!r}")

    def _kernel(self, kernel: Kernel, held: Mapping[str, Region], where: str) -> None:
        check_steps(kernel.steps, where=where)
        for name, region in kernel.outputs:
            _check_region(region, "float32", f"{where}, output {name!r}")
        for item in iter_slices(kernel.steps):
            _check_region(item.region, "float32", where)
            is_held = item.tensor in held and _contains(held[item.tensor], item.region)
            if not is_held and (item.tensor, item.region) not in self._weights:
                raise ConfigError(f"program: {where}: {item.tensor}{item.region} is not there to be read")
        for position, step in enumerate(kernel.steps):
            for _, value in step.arguments:
                _check_value(value, position, where)
            _check_sizes(step, self._max_elements, f"{where}: {step.target}")
        if not kernel.steps:
            raise ConfigError(f"program: {where}: no steps")

    def _buffer(self, index: int, where: str) -> Buffer:
        if not 0 <= index < len(self._program.buffers):
            raise ConfigError(
                f"program: {where}: buffer {index}, but there are {len(self._program.buffers)} buffers"
            )
        return self._program.buffers[index]

    def _read(self, index: int, where: str) -> None:
        self._buffer(index, where)
        if index not in self._filled:
            raise ConfigError(f"program: {where}: buffer {index} holds nothing at that point")

    def _write(self, index: int, where: str) -> None:
        if index in self._filled:
            raise ConfigError(f"program: {where}: buffer {index} is written twice")
        self._filled.add(index)

    def _check_within(self, region: Region, buffer: Buffer, where: str) -> None:
        if not _contains(buffer.region, region):
            raise ConfigError(f"program: {where}: {region} is not within its buffer of {buffer.region}")


def _contains(outer: Region, inner: Region) -> bool:
    return len(outer) == len(inner) and outer.contains(inner)


def _check_sizes(step: Step, max_elements: int, where: str) -> None:
    """A few bytes must not make an operator allocate a terabyte; an element takes at least a byte."""
    numbers = [
        item
        for name, value in step.arguments
        if name in _SIZES
        for item in (value if isinstance(value, tuple) else (value,))
    ]
    if step.target.startswith("aten.arange."):
        given = dict(step.arguments)
        start, end, stride = (
            _magnitude(given.get(*item)) for item in (("start", 0), ("end", 0), ("step", 1))
        )
        numbers.append((end - start) / stride if stride else math.inf)
    # Not `max(1, ...)`: NaN must not pass as a small number.
    count = math.prod(size if not size < 1 else 1.0 for size in (abs(_magnitude(n)) for n in numbers))
    if not count <= max_elements:
        raise WorkerOverloadedError(
            f"program: {where}: a result of {count:.3g} elements is larger than the worker's memory of "
            f"{max_elements:,} bytes"
        )


def _magnitude(value: LocalValue) -> float:
    """Return a number as a float; anything else as 1, which leaves a product as it is."""
    if not isinstance(value, int | float):
        return 1.0
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _check_value(value: LocalValue, position: int, where: str) -> None:
    items: Iterable[LocalValue] = value if isinstance(value, tuple) else (value,)
    for item in items:
        if isinstance(item, Result) and not 0 <= item.step < position:
            raise ConfigError(f"program: {where}: step {position} reads the result of step {item.step}")
        if isinstance(item, Literal):
            _check_literal(item, where)


def _check_literal(item: Literal, where: str) -> None:
    count = 1
    for size in item.shape:
        count *= size
    if item.dtype not in NUMPY_DTYPES or min(item.shape, default=0) < 0 or count != len(item.values):
        raise ConfigError(
            f"program: {where}: a literal {item.dtype}{list(item.shape)} of {len(item.values)} values"
        )
