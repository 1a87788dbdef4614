"""Measure kernels on this machine, the way that a worker runs them.

Kernels are timed in rounds: each once, then each once more. So a kernel finds in the caches what it finds
in a model's run: its input, which is touched just before, and hardly anything of its weights, which others
have displaced since.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from edgeflow.cost.kernels import Sample
from edgeflow.cost.work import Work, work_of
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph
from edgeflow.plan.program import Buffer, Compute, Kernel, Program
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.runtime.executor.base import Executor, Runnable
from edgeflow.sharding.region import Interval, Region

#: Operands that kernels of one round hold at once; several times any cache, a part of any memory.
ROUND_BYTES: Final = 128 << 20

#: Timed runs of one kernel, where time allows.
MAX_RUNS: Final = 9


Clock = Callable[[], float]


def clock_for(threads: int) -> Clock:
    """Return what to time kernels by: where one thread computes, its processor time.

    That leaves out what other processes of a busy machine take in between; several threads have no such
    clock, so there a busy machine is measured slower than it is.
    """
    return time.thread_time if threads == 1 else time.perf_counter


class Case(NamedTuple):
    """A region of an operator's output, perhaps as a partial sum, to be measured."""

    graph: ModelGraph
    operator: str
    region: Region
    contraction: Interval | None = None


class _Prepared(NamedTuple):
    work: Work
    runnable: Runnable
    inputs: dict[int, Array]
    num_bytes: int

    def run_s(self, clock: Clock) -> float:
        """Seconds of one run, its inputs having just been touched."""
        for array in self.inputs.values():
            array.max(initial=0)
        buffers = dict(self.inputs)
        start = clock()
        self.runnable.compute(0, buffers)
        return clock() - start


def measure(
    cases: Sequence[Case],
    executor: Executor,
    *,
    budget_s: float,
    clock: Clock = time.perf_counter,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Sample, ...]:
    """Time kernels, as many of them as the budget allows, in the order given.

    Args:
        budget_s: After it no new round is begun, but the first always is; a round that is under way ends
            after at most one more run of each kernel.
        clock: See `clock_for`.
        on_case: Told how many cases are done, of how many.

    Returns:
        For each case that was measured the median of its runs, less what a run without kernels takes.
    """
    deadline_s = time.perf_counter() + budget_s
    base_s = run_base_s(executor, clock)
    samples: list[Sample] = []
    done = 0
    for group in _rounds(cases, executor):
        now_s = time.perf_counter()
        if samples and now_s >= deadline_s:
            break
        share_s = (deadline_s - now_s) * len(group) / (len(cases) - done)
        samples += _measure_round(group, base_s, share_s, clock)
        done += len(group)
        on_case(done, len(cases))
    return tuple(samples)


def _measure_round(
    group: Sequence[_Prepared], base_s: float, budget_s: float, clock: Clock
) -> Iterator[Sample]:
    deadline_s = time.perf_counter() + budget_s
    for prepared in group:
        prepared.run_s(clock)  # does not count: memory is touched, code is chosen
    runs: list[list[float]] = [[] for _ in group]
    for number in range(MAX_RUNS):
        if number and time.perf_counter() >= deadline_s:
            break
        for seconds, prepared in zip(runs, group, strict=True):
            seconds.append(prepared.run_s(clock))
    for seconds, prepared in zip(runs, group, strict=True):
        # The clock's resolution bounds what can be told apart from nothing.
        yield Sample(prepared.work, max(1e-7, statistics.median(seconds) - base_s))


def _rounds(cases: Sequence[Case], executor: Executor) -> Iterator[list[_Prepared]]:
    """Prepare cases, as many at a time as fit into `ROUND_BYTES`."""
    group: list[_Prepared] = []
    num_bytes = 0
    for case in cases:
        prepared = _prepare(case, executor)
        if group and num_bytes + prepared.num_bytes > ROUND_BYTES:
            yield group
            group, num_bytes = [], 0
        group.append(prepared)
        num_bytes += prepared.num_bytes
    if group:
        yield group


def _prepare(case: Case, executor: Executor) -> _Prepared:
    """Compile one operator's slice as a program of one instruction, with made-up inputs."""
    graph = case.graph
    made = _made(case)
    tensors = (*made.needs, *made.outputs)
    buffers = tuple(Buffer(name, region, graph.specs[name].dtype) for name, region in tensors)
    numbered = tuple((name, number) for number, (name, _) in enumerate(tensors))
    compute = Compute(
        stage="measured",
        kernels=made.kernels,
        inputs=numbered[: len(made.needs)],
        outputs=numbered[len(made.needs) :],
    )
    program = Program(rank=0, instructions=(compute,), buffers=buffers, weights=made.weights)
    weights = {
        (item.tensor, item.region): np.ascontiguousarray(
            graph.weights[item.tensor][item.region.slices(Region.full(graph.specs[item.tensor].shape))]
        )
        for item in made.weights
    }
    inputs = {number: _made_up(buffers[number]) for _, number in compute.inputs}
    return _Prepared(
        work=work_of(made.kernels[-1]),
        runnable=executor.prepare(program, weights),
        inputs=inputs,
        num_bytes=sum(item.num_bytes for item in buffers) + sum(item.num_bytes for item in made.weights),
    )


def kernel_of(case: Case) -> Kernel:
    """The kernel that a case measures."""
    return _made(case).kernels[-1]


def _made(case: Case) -> StageKernels:
    operator = case.graph.by_name[case.operator]
    tensor = next(name for name in operator.outputs if name)
    stage = Stage(
        name="measured",
        kind="single",
        operators=(operator.name,),
        shards=(Shard(0, ((tensor, Piece(case.region, case.contraction)),)),),
    )
    return stage_kernels(case.graph, stage, stage.shards[0])


def _made_up(buffer: Buffer) -> Array:
    """Values of no meaning, but none that are slow to compute with (subnormal, not a number)."""
    dtype = NUMPY_DTYPES[buffer.dtype]
    if dtype.kind == "b":
        return np.ones(buffer.region.shape, dtype)
    if dtype.kind in "iu":
        return np.zeros(buffer.region.shape, dtype)
    values = np.random.default_rng(0).standard_normal(buffer.region.shape, dtype=np.float32)
    return values.astype(dtype, copy=False)


def run_base_s(executor: Executor, clock: Clock) -> float:
    """Seconds of a `Compute` that has no kernels: what a run costs beside them."""
    spec = Buffer("x", Region.full((8,)), "float32")
    compute = Compute(stage="empty", kernels=(), inputs=(("x", 0),), outputs=())
    runnable = executor.prepare(Program(rank=0, instructions=(compute,), buffers=(spec,)), {})
    array = _made_up(spec)
    seconds = []
    for _ in range(200):
        start = clock()
        runnable.compute(0, {0: array})
        seconds.append(clock() - start)
    return statistics.median(seconds)
