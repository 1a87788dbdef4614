"""`execute`: every device's program in this process, frames passed by hand. For numbers, not for speed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Protocol

import numpy as np

from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import Array, ModelGraph
from edgeflow.graph.structure import flatten_inputs, unflatten_outputs
from edgeflow.plan.program import CLIENT, Program, Receive, Send
from edgeflow.runtime.executor import AUTO, Executor, available_executors, make_executor
from edgeflow.runtime.interpreter import run

_Running = Generator[Receive, Array, dict[str, Array]]


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
    frames: dict[tuple[int, int], Array] = {}

    def start(rank: int, program: Program) -> _Running:
        def send(instruction: Send, array: Array) -> None:
            frames[instruction.peer, instruction.tag] = array

        runnable = executor.prepare(program, weights_of(graph, program))
        return run(runnable, program, inputs if rank == CLIENT else {}, send=send)

    running = {rank: start(rank, program) for rank, program in programs.items()}
    waiting: dict[int, Receive] = {}
    outputs: dict[str, Array] = {}
    while running:
        moved = False
        for rank, generator in list(running.items()):
            wanted = waiting.pop(rank, None)
            if wanted is not None and (rank, wanted.tag) not in frames:
                waiting[rank] = wanted
                continue
            moved = True
            try:
                while True:
                    value = None if wanted is None else frames.pop((rank, wanted.tag))
                    wanted = generator.send(value)  # type: ignore[arg-type]
                    if (rank, wanted.tag) not in frames:
                        waiting[rank] = wanted
                        break
            except StopIteration as stop:
                del running[rank]
                if rank == CLIENT:
                    outputs = stop.value
        if not moved:
            raise InvalidPlanError(f"programs wait for each other: {waiting}")
    return outputs
