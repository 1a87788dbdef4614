"""What every back end offers: prepare a program once, then run its kernels on numbered buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgeflow.graph.ir import Array
from edgeflow.plan.program import Program
from edgeflow.sharding.region import Region

#: Weight slices by tensor and region, as `Program.weights` names them.
Weights = Mapping[tuple[str, Region], Array]


class Runnable(Protocol):
    """A program, compiled; may be run for many requests, one at a time."""

    def compute(self, instruction_index: int, buffers: dict[int, Array]) -> None:
        """Run the `Compute` at ``instruction_index``: read its input buffers, set its output buffers.

        Arrays are not changed in place, so an output may share memory with an input.
        """
        ...


class Executor(Protocol):
    """A back end."""

    @property
    def name(self) -> str: ...

    def prepare(self, program: Program, weights: Weights) -> Runnable:
        """Compile a program.

        Raises:
            UnsupportedOperatorError: If the back end lacks an operator.
            KeyError: If a weight slice is missing.
        """
        ...
