"""`auto`: for each stretch rows, tokens, heads and columns, or one device, whatever is predicted fastest.

1. Dynamic programming over stretches: the state is the layout of the stretch just done, the step its
   estimated time plus the transfers that the change of layout needs. Layouts: one device each; rows with
   halos exchanged or recomputed, and tensor-parallel, on subsets of devices with shares in proportion to
   speed.
2. Every other strategy's plan is a candidate too, so under the cost model `auto` is never worse than any.
3. Local search on the exact prediction: change the layout of one run of stretches, shift shares.

The search is a heuristic: step 1 takes stages as barriers, step 3 stops at a local optimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.plan.program import CLIENT
from edgeflow.planner.coedge import coedge
from edgeflow.planner.edgeflow_paper import edgeflow_paper
from edgeflow.planner.estimate import Estimate, Estimator, transfer_s
from edgeflow.planner.fused import fused
from edgeflow.planner.layout import Layout
from edgeflow.planner.megatron import has_pairs, megatron
from edgeflow.planner.single import single
from edgeflow.planner.strategy import Run, Strategy, Task, best_of, finish_runs

#: Strategies whose plans are always candidates.
RIVALS: tuple[Strategy, ...] = (single, coedge, edgeflow_paper, fused, megatron)

_MAX_ALL_SUBSETS = 4
_SEARCH_EVALUATIONS = 40


def auto(task: Task) -> Plan:
    """Return the plan with the least predicted latency that was found.

    Raises:
        InfeasiblePlanError: If nothing fits; names the binding device and the bytes.
    """
    plans: list[Plan] = []
    failures: list[tuple[str, InfeasiblePlanError]] = []
    for rival in RIVALS:
        try:
            plans.append(rival(task))
        except InfeasiblePlanError as error:
            failures.append((rival.__name__, error))
    searched: list[tuple[Plan, list[Layout]]] = []
    for label, layouts in _families(task):
        chosen = _search(task, layouts)
        try:
            plan = _plan(task, chosen, label)
        except InfeasiblePlanError as error:
            failures.append((label, error))
            continue
        searched.append((plan, chosen))
    plans += [plan for plan, _ in searched]
    if searched:
        plan, chosen = min(searched, key=lambda item: item[0].predicted_latency_s)
        refined = _refine(task, plan, chosen)
        if refined is not plan:
            plans.append(refined)
    return best_of(plans, objective=task.objective, strategy="auto", failures=failures)


def _plan(task: Task, layouts: Sequence[Layout], label: str) -> Plan:
    runs = [Run(stretch, layout) for stretch, layout in zip(task.analysis.stretches, layouts, strict=True)]
    return finish_runs(task, runs, strategy="auto", label=label)


def _subsets(task: Task) -> list[tuple[int, ...]]:
    """Subsets of at least two devices: all where they are few, else the fastest 2, 3, 4, ... , n."""
    count = len(task.cluster.devices)
    if count <= _MAX_ALL_SUBSETS:
        return [subset for size in range(2, count + 1) for subset in combinations(task.cluster.ranks, size)]
    sizes = [size for size in range(2, count + 1) if size <= 8 or size == count or (size & (size - 1)) == 0]
    return [tuple(sorted(task.fastest[:size])) for size in sizes]


def _layouts(task: Task) -> list[Layout]:
    layouts = [Layout(kind="single", devices=(rank,)) for rank in task.fastest[:8]]
    for devices in _subsets(task):
        shares = tuple(task.speeds[rank] for rank in devices)
        layouts.append(Layout(kind="tensor", devices=devices, shares=shares))
        for exchange in (True, False):
            layouts.append(Layout(kind="rows", devices=devices, shares=shares, exchange=exchange))
    return layouts


def _families(task: Task) -> Iterator[tuple[str, list[Sequence[Layout]]]]:
    """Sets of layouts to search in, one a stretch: everything, and kinds kept apart.

    The last one mixes on purpose: tensor-parallel wherever a column-parallel product meets a row-parallel
    one, rows elsewhere. It needs the least memory, and is what remains when copies of all weights do not
    fit.
    """
    layouts = _layouts(task)
    count = len(task.analysis.stretches)
    if len(task.cluster.devices) == 1 or not count:
        return
    rows = [layout for layout in layouts if layout.kind in ("rows", "single")]
    tensor = [layout for layout in layouts if layout.kind in ("tensor", "single")]
    strictly = [layout for layout in layouts if layout.kind == "tensor"]
    yield "search over all layouts", [layouts] * count
    yield "search over rows and single", [rows] * count
    yield "search over tensor and single", [tensor] * count
    yield (
        "search over rows, and tensor for pairs",
        [strictly if has_pairs(task, stretch) else rows for stretch in task.analysis.stretches],
    )


def _search(task: Task, layouts: Sequence[Sequence[Layout]]) -> list[Layout]:
    """Dynamic programming over stretches; returns the layout of each, out of those allowed for it."""
    estimator = Estimator(task.analysis, task.cost)
    stretches = task.analysis.stretches
    estimates = [
        {layout: estimator.estimate(stretch, layout) for layout in allowed}
        for stretch, allowed in zip(stretches, layouts, strict=True)
    ]
    made_in = {
        name: index for index, stretch in enumerate(stretches) for op in stretch for name in op.outputs
    }
    best = {
        layout: transfer_s(task.cost, estimate.needs, {}, estimator.itemsizes) + estimate.seconds
        for layout, estimate in estimates[0].items()
    }
    back: list[dict[Layout, Layout]] = []
    for index in range(1, len(stretches)):
        steps, choices = {}, {}
        for layout, after in estimates[index].items():
            options = {
                before: seconds + _change_s(task, estimator, estimates, made_in, index, before, after)
                for before, seconds in best.items()
            }
            choices[layout] = min(options, key=options.__getitem__)
            steps[layout] = options[choices[layout]] + after.seconds
        best = steps
        back.append(choices)
    answer = {name: {CLIENT: task.analysis.full(name)} for name in task.graph.outputs}
    last = {
        layout: seconds + transfer_s(task.cost, answer, estimates[-1][layout].owned, estimator.itemsizes)
        for layout, seconds in best.items()
    }
    path = [min(last, key=last.__getitem__)]
    for choices in reversed(back):
        path.append(choices[path[-1]])
    return path[::-1]


def _change_s(
    task: Task,
    estimator: Estimator,
    estimates: Sequence[Mapping[Layout, Estimate]],
    made_in: Mapping[str, int],
    index: int,
    before: Layout,
    after: Estimate,
) -> float:
    """Transfers when stretch ``index`` follows one in layout ``before``.

    Tensors from further back are taken to be laid out like the stretch before.
    """
    owned = {}
    for name in after.needs:
        if name in made_in:
            known = estimates[made_in[name]]
            owned[name] = known.get(before, next(iter(known.values()))).owned[name]
    return transfer_s(task.cost, after.needs, owned, estimator.itemsizes)


def _refine(task: Task, plan: Plan, layouts: list[Layout]) -> Plan:
    """Hill-climb on the exact prediction: one run's layout, or one device's share, at a time."""
    best = plan
    evaluations = 0
    improved = True
    while improved and evaluations < _SEARCH_EVALUATIONS:
        improved = False
        for changed in _neighbours(layouts):
            if evaluations >= _SEARCH_EVALUATIONS:
                break
            evaluations += 1
            try:
                candidate = _plan(task, changed, "search, refined")
            except InfeasiblePlanError:
                continue
            if candidate.predicted_latency_s < best.predicted_latency_s * 0.999:
                best, layouts, improved = candidate, changed, True
                break
    return best


def _neighbours(layouts: Sequence[Layout]) -> Iterator[list[Layout]]:
    spans = []
    for _, span in groupby(range(len(layouts)), key=lambda index: layouts[index]):
        members = list(span)
        spans.append((members[0], members[-1] + 1))
    # A run becomes like the one beside it.
    for position, (start, stop) in enumerate(spans):
        for other in (position - 1, position + 1):
            if 0 <= other < len(spans):
                replacement = layouts[spans[other][0]]
                yield [*layouts[:start], *[replacement] * (stop - start), *layouts[stop:]]
    # One device takes more or less everywhere.
    ranks = sorted({rank for layout in layouts if layout.kind != "single" for rank in layout.devices})
    for rank in ranks:
        for factor in (0.85, 1.15):
            yield [_with_share(layout, rank, factor) for layout in layouts]


def _with_share(layout: Layout, rank: int, factor: float) -> Layout:
    if layout.kind == "single" or rank not in layout.devices:
        return layout
    shares = tuple(
        share * factor if device == rank else share
        for device, share in zip(layout.devices, layout.shares, strict=True)
    )
    return Layout(
        kind=layout.kind,
        devices=layout.devices,
        shares=shares,
        exchange=layout.exchange,
        labelling=layout.labelling,
    )
