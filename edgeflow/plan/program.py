"""What one device runs: an ordered list of instructions over numbered buffers.

The simulator, the in-process executor and the workers all run these same programs. Buffers are numbered
per program; each holds one region of one tensor. Sends never block; a receive waits for its frame. All
programs follow one global order of stages, so they cannot deadlock.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.sharding.cut import Step
from edgeflow.sharding.region import Region

#: Rank of the process that brings the inputs and takes the outputs.
CLIENT: Final = -1


class Kernel(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One operator's local computation.

    Attributes:
        operator: Name of the operator in the graph.
        steps: Local calls; the last one's result is the output.
        outputs: Tensors that the last step returns ("" where nobody reads one), and their regions.
        flops: Floating-point operations.
        num_bytes: Bytes read and written, weights included.
    """

    operator: str
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, Region], ...]
    flops: int
    num_bytes: int


class Receive(msgspec.Struct, frozen=True, gc=False, tag="receive", kw_only=True):
    """Wait for the frame ``tag`` from rank ``peer`` and keep it in ``buffer``."""

    buffer: int
    tensor: str
    region: Region
    dtype: str
    peer: int
    tag: int
    stage: str


class Send(msgspec.Struct, frozen=True, gc=False, tag="send", kw_only=True):
    """Send ``region`` of ``buffer`` to rank ``peer`` as frame ``tag``; never blocks."""

    buffer: int
    tensor: str
    region: Region
    dtype: str
    peer: int
    tag: int
    stage: str

    @property
    def num_bytes(self) -> int:
        return self.region.num_elements * NUMPY_DTYPES[self.dtype].itemsize


class Part(msgspec.Struct, frozen=True, gc=False):
    """A region that is taken from a buffer."""

    buffer: int
    region: Region


class Assemble(msgspec.Struct, frozen=True, gc=False, tag="assemble", kw_only=True):
    """Make ``buffer`` = ``region`` of ``tensor`` out of parts.

    With ``is_sum`` the parts are partial sums: they are added, in the order given, onto zero. Otherwise
    they cover the region and are copied; where two overlap they hold equal values.
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
        inputs: ``(tensor, buffer)`` of activations that the kernels read; weights are found by their slice.
        outputs: ``(tensor, buffer)`` of the tensors to keep.
    """

    stage: str
    kernels: tuple[Kernel, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


class Free(msgspec.Struct, frozen=True, gc=False, tag="free"):
    """Forget buffers: nothing after this reads them."""

    buffers: tuple[int, ...]


Instruction = Receive | Send | Assemble | Compute | Free


class WeightSlice(msgspec.Struct, frozen=True, gc=False):
    """A region of a weight that a program reads."""

    tensor: str
    region: Region
    dtype: str

    @property
    def num_bytes(self) -> int:
        return self.region.num_elements * NUMPY_DTYPES[self.dtype].itemsize


class Buffer(msgspec.Struct, frozen=True, gc=False):
    """What a numbered buffer holds."""

    tensor: str
    region: Region
    dtype: str

    @property
    def num_bytes(self) -> int:
        return self.region.num_elements * NUMPY_DTYPES[self.dtype].itemsize


class Program(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Everything that one rank does for one request.

    Attributes:
        rank: The device's rank, or `CLIENT`.
        instructions: In order.
        buffers: ``buffers[i]`` describes buffer ``i``.
        inputs: ``(tensor, buffer)`` that are filled before the first instruction (the client's only).
        outputs: ``(tensor, buffer)`` that are read after the last (the client's only).
        weights: Slices of weights that the kernels read, each once.
        peak_bytes: Most bytes of buffers alive at once, kernels' own intermediates included.
    """

    rank: int
    instructions: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    inputs: tuple[tuple[str, int], ...] = ()
    outputs: tuple[tuple[str, int], ...] = ()
    weights: tuple[WeightSlice, ...] = ()
    peak_bytes: int = 0


def encode(program: Program) -> bytes:
    """Return the program as JSON bytes, for the wire."""
    return msgspec.json.encode(program)
