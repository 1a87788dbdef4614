"""The protocol of back ends: prepare a program once, then run its kernels on numbered buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgeflow.graph.ir import Array
from edgeflow.plan.program import Program
from edgeflow.sharding.region import Region

#: Weight slices by tensor and region, as `Program.weights` names them.
Weights = Mapping[tuple[str, Region], Array]

#: Content hashes of weight slices, by the same keys; equal hashes mean equal content.
Hashes = Mapping[tuple[str, Region], str]


class Runnable(Protocol):
    """A compiled program; runs many requests, one at a time."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        """Run the `Compute` at ``instruction_index``: read its input buffers, set its output buffers.

        Arrays are not changed in place, so an output may share memory with an input.
        """
        ...


class Executor(Protocol):
    """A back end."""

    @property
    def name(self) -> str: ...

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> Runnable:
        """Compile a program.

        Args:
            hashes: Content hashes of the weights, if known: kernels compiled earlier with equal hashes may be
                used again.

        Raises:
            UnsupportedOperatorError: If the back end lacks an operator.
            KeyError: If a weight slice is missing.
        """
        ...
