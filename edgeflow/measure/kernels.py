"""Measure kernels on this machine, the way that a worker runs them.

Kernels are timed in rounds: each once, then each once more. So caches are as in a run of the model:
they hold the kernel's input, touched just before, and little of its weights, displaced by other kernels.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, pairwise
from typing import Final, NamedTuple

import numpy as np

from edgeflow.cost.kernels import Sample
from edgeflow.cost.work import Work, work_of
from edgeflow.graph.ir import NUMPY_DTYPES, Array, ModelGraph
from edgeflow.kernels.base import Executor, Runnable
from edgeflow.plan.program import Buffer, Compute, Kernel, Program
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.sharding.cut import Slice, Step
from edgeflow.sharding.region import Interval, Region

#: Bytes of the operands of one round; several times larger than caches, smaller than any memory.
ROUND_BYTES: Final = 128 << 20

#: Most timed runs of one kernel.
MAX_RUNS: Final = 9


Clock = Callable[[], float]


def clock_for(threads: int) -> Clock:
    """Return the clock to time kernels by: for one thread, its processor time.

    Processor time excludes other processes of a busy machine. Several threads have no such clock, so with
    them a busy machine is measured slower than it is.
    """
    return time.thread_time if threads == 1 else time.perf_counter


class Case(NamedTuple):
    """A region of an operator's output, perhaps as a partial sum, to be measured."""

    graph: ModelGraph
    operator: str
    region: Region
    contraction: Interval | None = None


class Prepared(NamedTuple):
    """Kernels that are ready to run, as one `Compute`, on made-up inputs."""

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
    base_s: float | None = None,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Sample, ...]:
    """Time kernels, as many of them as the budget allows, in the order given.

    Args:
        budget_s: After it no new round is begun, but the first always is; a round that is under way ends
            after at most one more run of each kernel.
        clock: See `clock_for`.
        base_s: What a run takes beside its kernels, if that is known.
        on_case: Told how many cases are done, of how many.

    Returns:
        For each case that was measured the median of its runs, less ``base_s``, or what a run without kernels
        takes.
    """
    deadline_s = time.perf_counter() + budget_s
    base_s = run_base_s(executor, clock) if base_s is None else base_s
    samples: list[Sample] = []
    done = 0
    for group in _rounds(cases, executor):
        now_s = time.perf_counter()
        if samples and now_s >= deadline_s:
            break
        share_s = (deadline_s - now_s) * len(group) / (len(cases) - done)
        seconds = measure_round([prepared for _, prepared in group], budget_s=share_s, clock=clock)
        samples += [
            Sample(work, net_s(taken, base_s)) for (work, _), taken in zip(group, seconds, strict=True)
        ]
        done += len(group)
        on_case(done, len(cases))
    return tuple(samples)


def net_s(seconds: float, base_s: float) -> float:
    """Return the seconds of kernels without the overhead of the run, and at least the clock's resolution."""
    return max(1e-7, seconds - base_s)


def measure_round(
    group: Sequence[Prepared],
    *,
    budget_s: float,
    clock: Clock,
    min_runs: int = 1,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """Run each once, then each once more, and so on; return the median seconds of each.

    Args:
        budget_s: After it none is run again that has run ``min_runs`` times.
        between: Called before each turn.
    """
    deadline_s = time.perf_counter() + budget_s
    for prepared in group:
        prepared.run_s(clock)  # does not count: memory is touched, code is chosen
    runs: list[list[float]] = [[] for _ in group]
    for number in range(MAX_RUNS):
        if number >= min_runs and time.perf_counter() >= deadline_s:
            break
        between()
        for seconds, prepared in zip(runs, group, strict=True):
            seconds.append(prepared.run_s(clock))
    return [statistics.median(seconds) for seconds in runs]


def _rounds(cases: Sequence[Case], executor: Executor) -> Iterator[list[tuple[Work, Prepared]]]:
    """Prepare cases, as many at a time as fit into `ROUND_BYTES`."""
    group: list[tuple[Work, Prepared]] = []
    num_bytes = 0
    for case in cases:
        made = _made(case)
        prepared = prepare(case.graph, made, executor)
        if group and num_bytes + prepared.num_bytes > ROUND_BYTES:
            yield group
            group, num_bytes = [], 0
        group.append((work_of(made.kernels[-1]), prepared))
        num_bytes += prepared.num_bytes
    if group:
        yield group


def prepare(graph: ModelGraph, made: StageKernels, executor: Executor) -> Prepared:
    """Compile what a device does in a stage as a program of one instruction."""
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
    return Prepared(
        runnable=executor.prepare(program, weights),
        inputs={number: _made_up(buffers[number]) for _, number in compute.inputs},
        num_bytes=sum(item.num_bytes for item in buffers) + sum(item.num_bytes for item in made.weights),
    )


def prepare_case(case: Case, executor: Executor) -> Prepared:
    """Compile the kernels of a case."""
    return prepare(case.graph, _made(case), executor)


def kernel_of(case: Case) -> Kernel:
    """Return the kernel that a case measures."""
    return _made(case).kernels[-1]


def _made(case: Case) -> StageKernels:
    operator = case.graph.by_name[case.operator]
    stage = Stage(
        name="measured",
        kind="single",
        operators=(operator.name,),
        shards=(Shard(0, ((operator.first_output, Piece(case.region, case.contraction)),)),),
    )
    return stage_kernels(case.graph, stage, stage.shards[0])


def _made_up(buffer: Buffer) -> Array:
    """Return arbitrary values without subnormals and NaN, which are slow to compute with."""
    dtype = NUMPY_DTYPES[buffer.dtype]
    if dtype.kind == "b":
        return np.ones(buffer.region.shape, dtype)
    if dtype.kind in "iu":
        return np.zeros(buffer.region.shape, dtype)
    values = np.random.default_rng(0).standard_normal(buffer.region.shape, dtype=np.float32)
    return values.astype(dtype, copy=False)


class StartProbe:
    """Measures the start of a `Compute`: the time of one with a tiny kernel, less that kernel.

    An empty `Compute` would not do: it calls no session. The time of one tiny kernel follows from the
    difference between a chain of several and a single one. A request calls each session once, when others
    have displaced it from the caches; so many copies of both chains take turns.
    """

    _LONG: Final = 5
    _COPIES: Final = 16

    def __init__(self, executor: Executor, clock: Clock) -> None:
        self._clock = clock
        self._seconds: dict[int, list[float]] = {1: [], self._LONG: []}
        chains = [(length, _chain(executor, length)) for _ in range(self._COPIES) for length in self._seconds]
        self._turns = cycle(chains)
        self._array = _made_up(Buffer("x", _FEW, "float32"))

    def run(self) -> None:
        """Time the next chain."""
        length, runnable = next(self._turns)
        buffers = {0: self._array}
        start = self._clock()
        runnable.compute(0, buffers)
        self._seconds[length].append(self._clock() - start)

    @property
    def start_s(self) -> float:
        """Seconds by the medians of all runs; zero before the first."""
        if not all(self._seconds.values()):
            return 0.0
        short_s, long_s = (statistics.median(found) for found in self._seconds.values())
        return max(0.0, short_s - max(0.0, long_s - short_s) / (self._LONG - 1))


#: So few elements that computing on them takes no time.
_FEW: Final = Region.full((8,))


def _chain(executor: Executor, length: int) -> Runnable:
    """Return a `Compute` of ``length`` kernels that no back end fuses away."""
    names = ["x", *(f"y{number}" for number in range(length))]
    kernels = tuple(
        Kernel(
            operator=made,
            steps=(Step(f"aten.{'neg' if number % 2 else 'abs'}.default", (("self", Slice(read, _FEW)),)),),
            outputs=((made, _FEW),),
            flops=0,
            num_bytes=0,
        )
        for number, (read, made) in enumerate(pairwise(names))
    )
    compute = Compute(stage="chain", kernels=kernels, inputs=(("x", 0),), outputs=((names[-1], 1),))
    buffers = tuple(Buffer(name, _FEW, "float32") for name in ("x", names[-1]))
    return executor.prepare(Program(rank=0, instructions=(compute,), buffers=buffers), {})


def run_base_s(executor: Executor, clock: Clock) -> float:
    """Return the seconds of a `Compute` without kernels: the overhead of a run."""
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
