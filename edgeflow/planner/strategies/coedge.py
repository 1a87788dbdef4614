"""CoEdge: one row split for the whole CNN, by linear programming: least energy under a deadline.

Rows for everything up to the last convolution or pool, neighbours exchanging halos; the rest runs on one
device after an aggregation. One share a_i of the rows per device and one duration t_l per layer::

    minimise    sum_i joules_i a_i                      with the objective ``energy``; else sum_l t_l
    subject to  slope_li a_i + fixed_li + halo_li <= t_l,  sum_l t_l <= deadline,  sum_i a_i = 1,
                a_i <= what the memory of i holds

* A device whose strip would be thinner than the padding of some convolution is left out, the one with the
  smallest share first, and the programme is solved again without it. Devices go on being left out down to
  two, since being in the chain at all costs halos, in time and in joules; the best of the sets is kept.
  Beyond the paper, for energy: of few devices all sets are weighed, since a small share may be that of the
  device that keeps the deadline; and a set with too thin a strip is also solved with every strip as thick as
  it must be.
* Where no set keeps the deadline, the split of least latency is taken, and misses it.
* One device alone is always weighed, and so is the split in proportion to speed.

Reconstructed: the formulas are a reconstruction from the paper's abstract and the literature around it; the
paper's constants are not known, so its figures are not claimed. A layer is what lies between two exchanges;
slopes and fixed parts are straight lines through two real cuts under the costs in use (the paper: cycles per
kilobyte); halos are those of the split in proportion, held constant. Beyond the paper: the way of the input
from the client and of the last rows to the device that goes on are in the programme.
Left out: requests that overlap; with the objective ``throughput`` the least latency is looked for.

References:
    Zeng, Chen, Zhou, Yang, Zhang, "CoEdge: Cooperative DNN Inference With Adaptive Workload Partitioning Over
    Heterogeneous Edge Devices", IEEE/ACM Transactions on Networking 29(2), 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.alone import best_alone
from edgeflow.planner.search.coedge_lp import Programme, Solution
from edgeflow.planner.search.space import linked_devices
from edgeflow.planner.task import Run, Task, best_of, finish_runs
from edgeflow.sharding.region import split_interval

#: How often the deadline is tightened if the prediction misses what the programme keeps: it rounds, and
#: knows no contention.
_TIGHTENINGS = 2
#: Up to so many devices, every set of them is weighed for energy.
_MAX_ALL_SETS = 6


def coedge(task: Task) -> Plan:
    """Return the row-split plan, or that of one device if it is better.

    Raises:
        InfeasiblePlanError: If neither a split nor one device fits.
    """
    plans: list[Plan] = []
    failures: list[tuple[str, InfeasiblePlanError]] = []
    try:
        plans.append(best_alone(task))
    except InfeasiblePlanError as error:
        failures.append(("single", error))
    end = _end_of_cnn(task)
    devices = linked_devices(task.cost, task.fastest)
    if end and len(devices) > 1:
        _add_splits(task, end, devices, plans, failures)
    return best_of(plans, objective=task.objective, strategy="coedge", failures=failures)


def _add_splits(
    task: Task,
    end: int,
    devices: tuple[int, ...],
    plans: list[Plan],
    failures: list[tuple[str, InfeasiblePlanError]],
) -> None:
    limits = _thinnest(task, task.graph.operators[:end])
    programme = Programme(task, end, tuple(sorted(devices)))

    def weigh(split: Solution, what: str) -> Plan | None:
        label = f"coedge {what} on {len(split.devices)} devices"
        try:
            plans.append(_plan(task, end, split, label))
        except InfeasiblePlanError as error:
            failures.append((label, error))
            return None
        return plans[-1]

    in_proportion = _in_proportion(task, programme, limits)
    if in_proportion is not None:
        weigh(in_proportion, "rows in proportion")
    fitting = [rank for rank in programme.devices if programme.holds(rank)]
    is_energy = task.objective.kind == "energy"
    asked_s = deadline_s = task.objective.deadline_s if is_energy else None
    for _ in range(len(devices) + _TIGHTENINGS):
        split = best_split(programme, fitting, limits, energy=is_energy, deadline_s=deadline_s)
        if split is None:
            break
        plan = weigh(split, "rows")
        if plan is None:  # there was less memory than the programme thought
            lacking = failures[-1][1].device
            fitting = [rank for rank in fitting if task.cluster.devices[rank].name != lacking]
            continue
        if deadline_s is None or asked_s is None or split.misses_s > 0 or plan.predicted_latency_s <= asked_s:
            break
        deadline_s *= 0.99 * asked_s / plan.predicted_latency_s
    if asked_s is not None and all(plan.predicted_latency_s > asked_s for plan in plans):
        least = best_split(programme, fitting, limits, energy=False, deadline_s=None)
        if least is not None:
            weigh(least, "rows of least latency")


def best_split(
    programme: Programme,
    devices: Sequence[int],
    limits: Mapping[int, int],
    *,
    energy: bool,
    deadline_s: float | None,
) -> Solution | None:
    """Return the best split over sets of devices; see the module's docstring for which.

    Args:
        limits: Positions of a tensor -> the least that a device's strip of it may have.

    Returns:
        None if no set of two or more has strips that are thick enough.
    """
    # Energy depends on which devices take part, not only on how much, and the smallest share may be that of
    # the device that keeps the deadline.
    if energy and len(devices) <= _MAX_ALL_SETS:
        sets = [item for size in range(2, len(devices) + 1) for item in combinations(devices, size)]
        found = [programme.solve(item, energy=energy, deadline_s=deadline_s) for item in sets]
    else:
        found = list(_ever_fewer(programme, devices, energy=energy, deadline_s=deadline_s))
    # A row more than the thinnest strip needs, for what rounding takes away.
    least = max((limit / size for size, limit in limits.items()), default=0.0) + 1 / programme.num_rows
    best: Solution | None = None
    for solution in found:
        thick = solution
        if energy and solution is not None and not is_thick(solution.rows, limits):
            thick = programme.solve(solution.devices, energy=energy, deadline_s=deadline_s, least_share=least)
        if thick is not None and is_thick(thick.rows, limits) and (best is None or thick.score < best.score):
            best = thick
    return best


def _ever_fewer(
    programme: Programme, devices: Sequence[int], *, energy: bool, deadline_s: float | None
) -> Iterator[Solution]:
    """Yield the best split of all devices, and of those left without the smallest share of the one before."""
    active = list(devices)
    while len(active) > 1:
        solution = programme.solve(tuple(active), energy=energy, deadline_s=deadline_s)
        if solution is None:  # what they hold together is not all rows; fewer hold less
            return
        yield solution
        smallest = min(range(len(active)), key=lambda index: (solution.shares[index], -index))
        del active[smallest]


def is_thick(rows: Sequence[float], limits: Mapping[int, int]) -> bool:
    """Whether every strip of every tensor is at least as thick as ``limits`` says."""
    return all(
        interval.length >= limit for size, limit in limits.items() for interval in split_interval(size, rows)
    )


def is_windowed(op: Operator) -> bool:
    """Whether the operator slides a window over positions."""
    return ".conv" in op.target or "pool" in op.target


def _in_proportion(task: Task, programme: Programme, limits: Mapping[int, int]) -> Solution | None:
    """The split in proportion to speed, without the slowest devices where strips would be too thin."""
    devices = [rank for rank in task.fastest if rank in programme.devices]
    while len(devices) > 1:
        active = tuple(sorted(devices))
        speeds = [task.speeds[rank] for rank in active]
        if is_thick(speeds, limits):
            return programme.given(active, [speed / sum(speeds) for speed in speeds])
        devices.pop()
    return None


def _plan(task: Task, end: int, split: Solution, label: str) -> Plan:
    operators = task.graph.operators
    layout = Layout(kind="rows", devices=split.devices, shares=tuple(float(rows) for rows in split.rows))
    runs = [Run(operators[:end], layout)]
    if end < len(operators):
        runs.append(Run(operators[end:], Layout(kind="single", devices=(split.rest,))))
    return finish_runs(task, runs, strategy="coedge", label=label)


def _end_of_cnn(task: Task) -> int:
    """Number of operators up to the last labelled one that slides a window, and what it is summed by."""
    labels = task.analysis.labels
    end = 0
    for index, op in enumerate(task.graph.operators):
        split = op.first_output in labels or task.analysis.sums_along(op, labels)
        if is_windowed(op) and split:
            end = index + 1
    return end


def _thinnest(task: Task, operators: Sequence[Operator]) -> Mapping[int, int]:
    """Positions of a tensor -> the padding of the convolutions that make it, at least one."""
    labels = task.analysis.labels
    limits: dict[int, int] = {}
    for op in operators:
        if is_windowed(op) and op.first_output in labels:
            dim = labels[op.first_output] - 2
            paddings = dict(op.arguments).get("padding", ())
            padding = paddings[dim % len(paddings)] if isinstance(paddings, tuple) and paddings else 0
            size = task.graph.specs[op.first_output].shape[labels[op.first_output]]
            limits[size] = max(limits.get(size, 1), int(padding or 0))  # type: ignore[arg-type]
    return limits
