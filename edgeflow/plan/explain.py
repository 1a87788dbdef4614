"""A plan in plain words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from edgeflow.plan.encoding import wire_bytes
from edgeflow.plan.plan import Candidate, Plan
from edgeflow.plan.program import CLIENT, Compute, Program, Send
from edgeflow.plan.stage import Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.plan.verify import plan_memory_bytes
from edgeflow.units import format_bytes, format_flops, format_seconds

_KINDS = {
    "single": "on one device",
    "rows": "cut by rows or tokens",
    "tensor": "cut by heads, channels or hidden columns; partial sums added",
    "replicate": "the same on every device",
    "reduce": "re-partitioned",
}
_MAX_CANDIDATES = 8


def explain_plan(plan: Plan) -> str:
    """Return what each device does, what it costs, and what was rejected; see `Plan.explain`."""
    lines = [
        f"{plan.graph.name}: {len(plan.graph.operators)} operators, "
        f"{format_bytes(plan.graph.weight_bytes)} of weights, on {len(plan.cluster.devices)} devices "
        f"of {plan.cluster.name!r}",
        f"strategy {plan.strategy}: {plan.chosen or plan.strategy}, predicted "
        f"{format_seconds(plan.predicted_latency_s)}",
        *_objective(plan),
        *_activations(plan),
        *_verdict(plan),
        *_bound(plan),
        "",
        "stages",
        *_stage_lines(plan),
        "",
        "devices",
        *_device_lines(plan),
    ]
    if len(plan.candidates) > 1:
        lines += ["", "weighed", *_candidate_lines(plan.candidates, plan.chosen, plan.objective)]
    return "\n".join(lines)


def _activations(plan: Plan) -> Iterable[str]:
    """What is sent narrower than it is, and what that saves."""
    if not plan.activations:
        return
    sends = [send for way in plan.ways for program in way.programs.values() for send in program.sends]
    narrow = [send for send in sends if send.encoding]
    sent = sum(send.num_bytes for send in narrow)
    whole = sum(wire_bytes(send.region.shape, send.dtype, "") for send in narrow)
    yield (
        f"activations as {plan.activations} on slow links: {len(narrow)} of {len(sends)} frames, "
        f"{format_bytes(sent)} instead of {format_bytes(whole)}; answers are not exactly those of one device"
    )


def _objective(plan: Plan) -> Iterable[str]:
    """What else was predicted, where more than latency was asked for."""
    if plan.objective != "latency":
        per_s = 1 / plan.predicted_period_s if plan.predicted_period_s > 0 else float("inf")
        yield (
            f"objective {plan.objective}: {per_s:,.1f} requests a second, "
            f"{plan.predicted_energy_j:.3g} J a request (modelled)"
        )
    if plan.deadline_s is not None:
        late_s = plan.predicted_latency_s - plan.deadline_s
        how = f"missed by {format_seconds(late_s)}" if late_s > 0 else "kept"
        yield f"the deadline of {format_seconds(plan.deadline_s)} is {how}"
    if plan.replicas:
        yield f"{len(plan.ways)} ways to answer; each request goes to the one expected to be done first"


def _bound(plan: Plan) -> Iterable[str]:
    if plan.lower_bound_s > 0:
        gap = plan.predicted_latency_s / plan.lower_bound_s - 1
        yield (
            f"no plan is predicted to take less than {format_seconds(plan.lower_bound_s)}; "
            f"this one takes {100 * gap:.0f} % more"
        )


def _verdict(plan: Plan) -> Iterable[str]:
    alone = [
        item for item in plan.candidates if item.label.startswith("single on ") and item.latency_s is not None
    ]
    if not alone or plan.replicas:
        return
    best = min(alone, key=lambda item: item.latency_s or 0.0)
    assert best.latency_s is not None
    if len(plan.devices) == 1 and len(plan.cluster.devices) > 1:
        yield f"one device alone is faster than any split that was tried ({best.label})"
    elif len(plan.devices) > 1:
        ratio = best.latency_s / plan.predicted_latency_s
        alone_s = format_seconds(best.latency_s)
        yield f"{ratio:.2f}x the speed of the best device alone ({best.label}, {alone_s})"


def _stage_lines(plan: Plan) -> Iterable[str]:
    """Runs of stages of one kind on the same devices, with each device's share of their work."""
    for number, way in enumerate(plan.ways):
        if plan.replicas:
            yield f"  way {number + 1}"
        yield from _way_lines(way)


def _way_lines(plan: Plan) -> Iterable[str]:
    for (kind, devices), group in groupby(plan.stages, key=lambda stage: (stage.kind, stage.devices)):
        stages = list(group)
        work = _flops_by_device(plan, stages)
        total = sum(work.values())
        names = [name for stage in stages for name in stage.operators]
        first, last = (names[0], names[-1]) if names else ("-", "-")
        where = f"{stages[0].name}..{stages[-1].name}" if len(stages) > 1 else stages[0].name
        yield (
            f"  {where:<11} {_KINDS.get(kind, kind)}: {len(names)} operators, {first} to {last}, "
            f"{format_flops(total)}"
        )
        if any(stage.claimants for stage in stages):
            tasks = sum(len(stage.shards) for stage in stages)
            takers = ", ".join(plan.cluster.devices[rank].name for rank in devices)
            yield f"  {'':<11} {tasks} tasks, each taken by whichever is idle of {takers}"
        elif len(devices) > 1:
            shares = ", ".join(
                f"{plan.cluster.devices[rank].name} {100 * work[rank] / max(1, total):.0f} %"
                for rank in devices
            )
            yield f"  {'':<11} {shares}"
        elif devices:
            yield f"  {'':<11} {plan.cluster.devices[devices[0]].name}"


def _flops_by_device(plan: Plan, stages: Sequence[Stage]) -> Mapping[int, int]:
    work: dict[int, int] = {}
    for stage in stages:
        for shard in stage.shards:
            flops = stage_kernels(plan.graph, stage, shard).flops if stage.operators else 0
            work[shard.device] = work.get(shard.device, 0) + flops
    return work


def _device_lines(plan: Plan) -> Iterable[str]:
    memory = plan_memory_bytes(plan)
    for rank, device in enumerate(plan.cluster.devices):
        programs = [way.programs[rank] for way in plan.ways if rank in way.programs]
        if not programs:
            yield f"  {device.name:<12} idle"
            continue
        sent, messages = (sum(numbers) for numbers in zip(*map(_sent, programs), strict=True))
        work = format_flops(sum(map(_flops, programs)))
        claims = ", at most: tasks are claimed" if any(item.has_claims for item in programs) else ""
        yield (
            f"  {device.name:<12} {work:>12}, sends {format_bytes(sent):>10} in {messages} messages, "
            f"needs {format_bytes(memory[rank])} of {format_bytes(device.memory_bytes)}{claims}"
        )
    sent, messages = _sent(plan.programs[CLIENT])
    yield f"  {'client':<12} {'':>12}  sends {format_bytes(sent):>10} in {messages} messages"


def _flops(program: Program) -> int:
    return sum(item.flops for item in program.instructions if isinstance(item, Compute))


def _sent(program: Program) -> tuple[int, int]:
    """(bytes, frames) that a program sends for one request."""
    sends = [item for item in program.instructions if isinstance(item, Send)]
    return sum(item.num_bytes for item in sends), len(sends)


def _figures(item: Candidate, objective: str) -> str:
    """What was predicted of a candidate: its latency, and what else it was weighed by."""
    if item.latency_s is None:
        return item.reason
    latency = format_seconds(item.latency_s)
    if objective == "throughput" and item.period_s:
        return f"{latency:>10}, {1 / item.period_s:,.1f} requests/s"
    if objective == "energy" and item.energy_j is not None:
        return f"{latency:>10}, {item.energy_j:.3g} J"
    return latency


def _candidate_lines(candidates: Sequence[Candidate], chosen: str, objective: str) -> Iterable[str]:
    shown = candidates[:_MAX_CANDIDATES]
    width = max(len(item.label) for item in shown)
    for item in shown:
        mark = "*" if item.label == chosen else " "
        yield f"{mark} {item.label:<{width}}  {_figures(item, objective)}"
    if len(candidates) > _MAX_CANDIDATES:
        yield f"  and {len(candidates) - _MAX_CANDIDATES} more"
