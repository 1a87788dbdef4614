"""What a set of lowered programs must satisfy, whatever plan it came from; checked without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.program import (
    CLIENT,
    Assemble,
    Buffer,
    Compute,
    Free,
    Instruction,
    Program,
    Receive,
    Send,
)
from edgeflow.sharding.cut import iter_slices
from edgeflow.sharding.region import Region, subtract_all


def check_programs(graph: ModelGraph, programs: Mapping[int, Program]) -> None:
    """Raise AssertionError unless the programs fit each other and each keeps its buffers in order."""
    assert CLIENT in programs
    _check_frames(programs)
    _check_progress(programs)
    for rank, program in programs.items():
        assert program.rank == rank
        assert (not program.inputs and not program.outputs) or rank == CLIENT
        _Walk(graph, program).run()


def sends(programs: Mapping[int, Program]) -> Iterator[tuple[int, Send]]:
    """Yield (rank, send) for all sends."""
    for rank, program in programs.items():
        for item in program.instructions:
            if isinstance(item, Send):
                yield rank, item


def receives(programs: Mapping[int, Program]) -> Iterator[tuple[int, Receive]]:
    """Yield (rank, receive) for all receives."""
    for rank, program in programs.items():
        for item in program.instructions:
            if isinstance(item, Receive):
                yield rank, item


def _check_frames(programs: Mapping[int, Program]) -> None:
    """Every frame is sent once and received once, as the same thing, by the ranks that name each other."""
    sent = Counter(
        (rank, item.peer, item.tag, item.tensor, item.region, item.dtype, item.stage)
        for rank, item in sends(programs)
    )
    received = Counter(
        (item.peer, rank, item.tag, item.tensor, item.region, item.dtype, item.stage)
        for rank, item in receives(programs)
    )
    assert sent == received
    tags = Counter(item.tag for _, item in sends(programs))
    assert max(tags.values(), default=1) == 1, "a tag is used twice"
    assert all(source != peer for source, peer, *_ in sent), "a rank sends to itself"
    num_sent = sum(item.num_bytes for _, item in sends(programs))
    num_received = sum(
        Buffer(item.tensor, item.region, item.dtype).num_bytes for _, item in receives(programs)
    )
    assert num_sent == num_received


def _check_progress(programs: Mapping[int, Program]) -> None:
    """The programs run to their ends when sends never block and receives wait."""
    position = dict.fromkeys(programs, 0)
    arrived: set[int] = set()
    moved = True
    while moved:
        moved = False
        for rank, program in programs.items():
            while position[rank] < len(program.instructions):
                item = program.instructions[position[rank]]
                if isinstance(item, Receive) and item.tag not in arrived:
                    break
                if isinstance(item, Send):
                    arrived.add(item.tag)
                position[rank] += 1
                moved = True
    stuck = {r: position[r] for r, program in programs.items() if position[r] < len(program.instructions)}
    assert not stuck, f"ranks wait for ever, at instructions {stuck}"


class _Walk:
    """One program in order: which buffers hold something, and how many bytes that is."""

    def __init__(self, graph: ModelGraph, program: Program) -> None:
        self._graph = graph
        self._program = program
        self._weights = {(item.tensor, item.region) for item in program.weights}
        self._alive: set[int] = set()
        self._was_written: set[int] = set()
        self._peak = 0

    def run(self) -> None:
        for name, buffer in self._program.inputs:
            assert self._program.buffers[buffer].region.is_full(self._graph.specs[name].shape)
            self._write(buffer)
        for instruction in self._program.instructions:
            self._step(instruction)
        for name, buffer in self._program.outputs:
            assert self._program.buffers[buffer].region.is_full(self._graph.specs[name].shape)
        kept = {buffer for _, buffer in self._program.outputs}
        assert self._alive == kept, f"never freed: {self._alive - kept}"
        assert self._was_written == set(range(len(self._program.buffers)))
        assert self._peak <= self._program.peak_bytes

    def _step(self, instruction: Instruction) -> None:
        match instruction:
            case Send():
                buffer = self._read(instruction.buffer)
                self._check_part(buffer, instruction.tensor, instruction.region)
                assert instruction.dtype == buffer.dtype
            case Receive():
                buffer = self._write(instruction.buffer)
                assert buffer == Buffer(instruction.tensor, instruction.region, instruction.dtype)
            case Assemble():
                self._assemble(instruction)
            case Compute():
                self._compute(instruction)
            case Free():
                for index in instruction.buffers:
                    self._read(index)
                    self._alive.discard(index)

    def _assemble(self, item: Assemble) -> None:
        for part in item.parts:
            self._check_part(self._read(part.buffer), item.tensor, part.region)
            assert item.region.contains(part.region)
            assert not item.is_sum or part.region == item.region
        assert item.parts
        if not item.is_sum:
            assert not subtract_all(item.region, [part.region for part in item.parts]), "parts leave a gap"
        assert self._write(item.buffer) == Buffer(item.tensor, item.region, item.dtype)

    def _compute(self, item: Compute) -> None:
        held: dict[str, Region] = {}
        for name, index in item.inputs:
            buffer = self._read(index)
            assert buffer.tensor == name
            held[name] = buffer.region
        for kernel in item.kernels:
            for piece in iter_slices(kernel.steps):
                is_weight = (piece.tensor, piece.region) in self._weights
                assert is_weight or held[piece.tensor].contains(piece.region), piece
            held.update({name: region for name, region in kernel.outputs if name})
        for name, index in item.outputs:
            buffer = self._write(index)
            assert buffer.tensor == name
            assert held[name].contains(buffer.region)

    def _check_part(self, buffer: Buffer, tensor: str, region: Region) -> None:
        assert buffer.tensor == tensor
        assert not region.is_empty
        assert buffer.region.contains(region)

    def _read(self, index: int) -> Buffer:
        assert index in self._alive, f"buffer {index} holds nothing"
        return self._program.buffers[index]

    def _write(self, index: int) -> Buffer:
        assert index not in self._was_written, f"buffer {index} is written twice"
        self._was_written.add(index)
        self._alive.add(index)
        self._peak = max(self._peak, sum(self._program.buffers[i].num_bytes for i in self._alive))
        return self._program.buffers[index]
