"""What a set of lowered programs must satisfy, whatever plan it came from; checked without running it."""

from __future__ import annotations

from collections.abc import Mapping

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
from edgeflow.plan.walk import Walk
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


def _check_frames(programs: Mapping[int, Program]) -> None:
    """Every frame is received once, and sent by just those ranks that may send it, as the same thing."""
    sent: dict[int, list[tuple[int, Send]]] = {}
    for rank, program in programs.items():
        for item in program.sends:
            sent.setdefault(item.tag, []).append((rank, item))
    received: dict[int, tuple[int, Receive]] = {}
    for rank, program in programs.items():
        for receive in program.receives:
            assert receive.tag not in received, "a tag is used twice"
            received[receive.tag] = (rank, receive)
    assert set(sent) == set(received)
    for tag, (rank, receive) in received.items():
        assert sorted(source for source, _ in sent[tag]) == sorted(receive.peers)
        assert rank not in receive.peers, "a rank sends to itself"
        for _, item in sent[tag]:
            assert item.peer == rank
            assert (item.tensor, item.region) == (receive.tensor, receive.region)
            assert (item.dtype, item.stage) == (receive.dtype, receive.stage)


def _check_progress(programs: Mapping[int, Program]) -> None:
    """The programs run to their ends when sends never block and receives wait."""
    walks = {rank: Walk(program) for rank, program in programs.items()}
    ahead = {rank: walk.next() for rank, walk in walks.items()}
    arrived: dict[int, set[int]] = {rank: set() for rank in programs}
    moved = True
    while moved:
        moved = False
        for rank, program in programs.items():
            while (step := ahead[rank]) is not None:
                if isinstance(step, tuple):
                    chosen = next((item for item in step if item.tag in arrived[rank]), None)
                    if chosen is None:
                        break
                    walks[rank].choose(chosen)
                else:
                    item = program.instructions[step] if isinstance(step, int) else step
                    if isinstance(item, Receive) and item.tag not in arrived[rank]:
                        break
                    if isinstance(item, Send):
                        assert item.tag not in arrived[item.peer], "a frame is sent twice"
                        arrived[item.peer].add(item.tag)
                ahead[rank] = walks[rank].next()
                moved = True
    stuck = {rank: step for rank, step in ahead.items() if step is not None}
    assert not stuck, f"ranks wait for ever, at {stuck}"


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
            case Send(buffer=-1):
                assert self._program.has_claims
            case Send():
                buffer = self._read(instruction.buffer)
                self._check_part(buffer, instruction.tensor, instruction.region)
                assert instruction.dtype == buffer.dtype
            case Receive():
                if self._program.has_claims:  # what is received may have been made here instead
                    self._was_written.discard(instruction.buffer)
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
