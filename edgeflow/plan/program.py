"""The program of one rank: an ordered list of instructions over numbered buffers.

The prediction, the simulator, the in-process executor and the workers all run these same programs. Buffers
are numbered per program; each holds one region of one tensor. Sends never block; a receive waits for its
frame. All programs follow one global order of stages, so they cannot deadlock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from edgeflow.dtypes import bytes_of
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.plan.encoding import wire_bytes
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Region

#: Rank of the process that supplies the inputs and takes the outputs.
CLIENT: Final = -1


class Kernel(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One operator's local computation.

    Attributes:
        operator: Name of the operator in the graph.
        steps: Local calls; the last one returns the outputs.
        outputs: (tensor, region) of each output, in order; the tensor is "" where nothing reads it.
        flops: Floating-point operations.
        num_bytes: Bytes read and written, weights included.
        dtypes: ``(tensor, dtype)`` of every tensor that is not float32, indices and masks included. Empty for
            a kernel of float32 tensors, indices (int32, int64) and masks only.
    """

    operator: str
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, Region], ...]
    flops: int
    num_bytes: int
    dtypes: tuple[tuple[str, str], ...] = ()


class Receive(msgspec.Struct, frozen=True, gc=False, tag="receive", kw_only=True):
    """Wait for the frame ``tag`` from rank ``peer`` and keep it in ``buffer``.

    The result of a claimed task comes from the claimant that ran it: ``peer`` or one of ``others``. If this
    rank ran the task itself, ``buffer`` is filled already, no frame comes, and the receive is skipped.

    Attributes:
        others: Ranks that may send the frame instead of ``peer``.
        encoding: Encoding of the frame (`edgeflow.plan.encoding`), decoded on receipt; empty: none.
    """

    buffer: int
    tensor: str
    region: Region
    dtype: str
    peer: int
    tag: int
    stage: str
    others: tuple[int, ...] = ()
    encoding: str = ""

    @property
    def num_bytes(self) -> int:
        """Of the frame."""
        return _frame_bytes(self)

    @property
    def peers(self) -> tuple[int, ...]:
        """Every rank that may send the frame."""
        return (self.peer, *self.others)


class Send(msgspec.Struct, frozen=True, gc=False, tag="send", kw_only=True):
    """Send ``region`` of ``buffer``, encoded, to rank ``peer`` as frame ``tag``; never blocks."""

    buffer: int
    tensor: str
    region: Region
    dtype: str
    peer: int
    tag: int
    stage: str
    encoding: str = ""

    @property
    def num_bytes(self) -> int:
        """Of the frame."""
        return _frame_bytes(self)


def _frame_bytes(frame: Send | Receive) -> int:
    if frame.encoding:
        return wire_bytes(frame.region.shape, frame.dtype, frame.encoding)
    return frame.region.num_elements * NUMPY_DTYPES[frame.dtype].itemsize  # the common case, kept fast


class Part(msgspec.Struct, frozen=True, gc=False):
    """A region to copy from a buffer."""

    buffer: int
    region: Region


class Assemble(msgspec.Struct, frozen=True, gc=False, tag="assemble", kw_only=True):
    """Fill ``buffer`` with ``region`` of ``tensor`` from parts.

    With ``is_sum`` the parts are partial sums, added onto zero in the order given. Otherwise they cover the
    region and are copied; where two parts overlap, they hold equal values.
    """

    buffer: int
    tensor: str
    region: Region
    dtype: str
    parts: tuple[Part, ...]
    is_sum: bool
    stage: str


class Compute(msgspec.Struct, frozen=True, gc=False, tag="compute", kw_only=True):
    """Run kernels in order.

    Attributes:
        inputs: ``(tensor, buffer)`` of the activations that the kernels read. Weights have no buffers; the
            kernels name the slices that they read.
        outputs: ``(tensor, buffer)`` of the tensors to keep.
    """

    stage: str
    kernels: tuple[Kernel, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def flops(self) -> int:
        return sum(kernel.flops for kernel in self.kernels)


class Free(msgspec.Struct, frozen=True, gc=False, tag="free"):
    """Drop buffers that no later instruction reads."""

    buffers: tuple[int, ...]


class Claim(msgspec.Struct, frozen=True, gc=False, tag="claim", kw_only=True):
    """Run tasks, one at a time, until none is left, so that an idle rank takes the next one.

    Behind the claim stand the instructions of each task, beginning with the receive of its first input, then
    the receive of the frame "no task is left". The rank waits for any of these frames, continues at the
    receive of the first that arrives, and returns to the claim at the end of the task. The first task comes
    unasked; before each further one the rank asks ``peer`` for it with the next frame of ``tags``.
    `edgeflow.plan.claims` writes claims, `edgeflow.plan.walk` interprets them.

    Attributes:
        tags: Tags of the frames that ask for a task, in order.
        lengths: Number of instructions of each task.
    """

    stage: str
    peer: int
    tags: tuple[int, ...]
    lengths: tuple[int, ...]


class Dispense(msgspec.Struct, frozen=True, gc=False, tag="dispense", kw_only=True):
    """Hand out tasks, in order, to the claimants that ask, until each was told that none is left.

    Behind it stand, for each task and each claimant, the instructions that send the task's inputs to the
    claimant; then, for each claimant, the send of the frame "no task is left". Only the client has one.

    Attributes:
        tags: For each claimant, the tags of the frames that ask for a task, in order.
        lengths: Number of instructions of each of these parts.
    """

    stage: str
    claimants: tuple[int, ...]
    tags: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]

    @property
    def num_tasks(self) -> int:
        return len(self.lengths) // len(self.claimants) - 1


Instruction = Receive | Send | Assemble | Compute | Free | Claim | Dispense

#: The content of a frame whose tag alone is the message: one byte.
TOKEN: Final = Region.full((1,))
TOKEN_DTYPE: Final = "uint8"


def token_send(peer: int, tag: int, stage: str) -> Send:
    """Return the send of a frame without content; it reads no buffer."""
    return Send(buffer=-1, tensor="task", region=TOKEN, dtype=TOKEN_DTYPE, peer=peer, tag=tag, stage=stage)


def token_receive(peer: int, tag: int, stage: str) -> Receive:
    """Return the receive of a frame without content; it fills no buffer."""
    return Receive(buffer=-1, tensor="task", region=TOKEN, dtype=TOKEN_DTYPE, peer=peer, tag=tag, stage=stage)


class WeightSlice(msgspec.Struct, frozen=True, gc=False):
    """A region of a weight that a program reads."""

    tensor: str
    region: Region
    dtype: str

    @property
    def num_bytes(self) -> int:
        return bytes_of(self.region.num_elements, self.dtype)


class Buffer(msgspec.Struct, frozen=True, gc=False):
    """The region of a tensor that a numbered buffer holds."""

    tensor: str
    region: Region
    dtype: str

    @property
    def num_bytes(self) -> int:
        return bytes_of(self.region.num_elements, self.dtype)


class Program(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that one rank does for one request.

    Attributes:
        rank: The device's rank, or `CLIENT`.
        instructions: In order.
        buffers: ``buffers[i]`` describes buffer ``i``.
        inputs: ``(tensor, buffer)`` filled before the first instruction (of the client only).
        outputs: ``(tensor, buffer)`` read after the last instruction (of the client only).
        weights: Slices of weights that the kernels read, each once.
        peak_bytes: Most bytes of buffers alive at once, kernels' own intermediates included.
        has_claims: Whether it holds a `Claim` or `Dispense`, so that arriving frames decide which
            instructions run.
    """

    rank: int
    instructions: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[tuple[str, int], ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    weights: tuple[WeightSlice, ...] = ()
    peak_bytes: int = 0
    has_claims: bool = False

    @property
    def receives(self) -> tuple[Receive, ...]:
        """Every receive, including those of the frames that ask for tasks."""
        found = []
        for item in self.instructions:
            if isinstance(item, Receive):
                found.append(item)
            elif isinstance(item, Dispense):
                found += [
                    token_receive(rank, tag, item.stage)
                    for rank, tags in zip(item.claimants, item.tags, strict=True)
                    for tag in tags
                ]
        return tuple(found)

    @property
    def sends(self) -> tuple[Send, ...]:
        """Every send, including those of the frames that ask for tasks."""
        found = []
        for item in self.instructions:
            if isinstance(item, Send):
                found.append(item)
            elif isinstance(item, Claim):
                found += [token_send(item.peer, tag, item.stage) for tag in item.tags]
        return tuple(found)


def encode(program: Program) -> bytes:
    """Return the program as JSON bytes, for the wire."""
    return msgspec.json.encode(program)


def shared_stages(programs: Mapping[int, Program]) -> frozenset[str]:
    """Return the stages that several ranks compute."""
    counts = Counter(
        stage
        for program in programs.values()
        for stage in {item.stage for item in program.instructions if isinstance(item, Compute)}
    )
    return frozenset(stage for stage, count in counts.items() if count > 1)
