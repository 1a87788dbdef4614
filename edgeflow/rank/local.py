"""`execute`: every device's program in this process, frames passed by hand. For numbers, not for speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import flatten_inputs, unflatten_outputs
from edgeflow.kernels import AUTO, Executor, available_executors, make_executor
from edgeflow.plan.program import CLIENT, Program, Send
from edgeflow.rank.interpreter import Running, run
from edgeflow.rank.schedule import FrameKey


class _Plan(Protocol):
    @property
    def graph(self) -> ModelGraph: ...

    @property
    def programs(self) -> Mapping[int, Program]: ...


def execute(
    plan: _Plan,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    executor: Executor | None = None,
) -> Any:
    """Run a plan in this process and return what the module would return.

    Args:
        args: As the module takes them.
        kwargs: As the module takes them.
        executor: The back end; by default torch, the reference, where it is installed.

    Raises:
        ConfigError: If the inputs do not fit the graph.
        InvalidPlanError: If the programs wait for each other in a circle, which a lowered plan cannot.
    """
    inputs = flatten_inputs(plan.graph, args, kwargs)
    arrays = run_programs(plan.graph, plan.programs, inputs, executor or _reference())
    return unflatten_outputs(plan.graph, arrays)


def _reference() -> Executor:
    return make_executor("torch" if "torch" in available_executors() else AUTO)


def weights_of(graph: ModelGraph, program: Program) -> dict[tuple[str, Any], Array]:
    """Return the slices of weights that a program reads."""
    return {
        (item.tensor, item.region): np.asarray(
            graph.weights[item.tensor][tuple(slice(start, stop) for start, stop in item.region.intervals)]
        )
        for item in program.weights
    }


def run_programs(
    graph: ModelGraph, programs: Mapping[int, Program], inputs: Mapping[str, Array], executor: Executor
) -> dict[str, Array]:
    """Run every program, each as far as its frames allow, in turn; return the client's outputs."""
    frames: dict[int, dict[FrameKey, Array]] = {rank: {} for rank in programs}

    def start(rank: int, program: Program) -> Running:
        def send(instruction: Send, array: Array) -> None:
            frames[instruction.peer][FrameKey(rank, instruction.tag)] = array

        runnable = executor.prepare(program, weights_of(graph, program))
        return run(runnable, program, inputs if rank == CLIENT else {}, send=send)

    running = {rank: start(rank, program) for rank, program in programs.items()}
    waiting: dict[int, tuple[FrameKey, ...]] = {}
    outputs: dict[str, Array] = {}
    while running:
        moved = False
        for rank, generator in list(running.items()):
            try:
                if rank not in waiting:
                    moved = True
                    waiting[rank] = next(generator)
                while (key := _first(frames[rank], waiting[rank])) is not None:
                    moved = True
                    waiting[rank] = generator.send((key, frames[rank].pop(key)))
            except StopIteration as stop:
                del running[rank]
                if rank == CLIENT:
                    outputs = stop.value
        if not moved:
            names = {rank: keys for rank, keys in waiting.items() if rank in running}
            raise InvalidPlanError(f"programs wait for each other: {names}")
    return outputs


def _first(arrived: Mapping[FrameKey, Array], wanted: tuple[FrameKey, ...]) -> FrameKey | None:
    """Of the frames that have arrived, the first that is wanted."""
    return next((key for key in arrived if key in wanted), None)
