"""A plan in plain words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from math import inf
from typing import Final

from edgeflow.plan.decision import Decision
from edgeflow.plan.encoding import wire_bytes
from edgeflow.plan.program import CLIENT, Compute, Program, Send
from edgeflow.plan.stage import KINDS, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.plan.verify import plan_memory_bytes
from edgeflow.plan.weighed import Candidate, Figures, Weighed
from edgeflow.units import format_bytes, format_flops, format_seconds

_MAX_CANDIDATES: Final = 8


def explain(decision: Decision, weighed: Weighed) -> str:
    """Return what each device does, what it costs, and what was rejected; see `Plan.explain`."""
    graph, cluster = decision.graph, decision.cluster
    lines = [
        f"{graph.name}: {len(graph.operators)} operators, {format_bytes(graph.weight_bytes)} of weights, "
        f"on {len(cluster.devices)} devices of {cluster.name!r}",
        f"strategy {weighed.strategy}: {weighed.chosen or weighed.strategy}, {_latency(weighed.figures)}",
        *_objective(weighed),
        *_ways(decision),
        *_activations(decision),
        *_verdict(decision, weighed),
        *_bound(weighed),
        "",
        "stages",
        *_stage_lines(decision),
        "",
        "devices",
        *_device_lines(decision),
    ]
    if len(weighed.candidates) > 1:
        lines += ["", "weighed", *_candidate_lines(weighed)]
    return "\n".join(lines)


def _latency(figures: Figures) -> str:
    return "not predicted" if figures.latency_s is None else f"predicted {format_seconds(figures.latency_s)}"


def _per_s(period_s: float) -> str:
    return f"{1 / period_s if period_s > 0 else inf:,.1f}"


def _objective(weighed: Weighed) -> Iterable[str]:
    """The objective's figures, where it is not latency alone, and whether the deadline is kept."""
    figures = weighed.figures
    if weighed.objective != "latency":
        known = []
        if figures.period_s is not None:
            known.append(f"{_per_s(figures.period_s)} requests a second")
        if figures.energy_j is not None:
            known.append(f"{figures.energy_j:.3g} J a request (modelled)")
        known += _further(figures, weighed.objective)
        yield f"objective {weighed.objective}: {', '.join(known) or 'not predicted'}"
    if weighed.deadline_s is not None and figures.latency_s is not None:
        late_s = figures.latency_s - weighed.deadline_s
        how = f"missed by {format_seconds(late_s)}" if late_s > 0 else "kept"
        yield f"the deadline of {format_seconds(weighed.deadline_s)} is {how}"


def _further(figures: Figures, objective: str) -> list[str]:
    """The figure that an objective names, if it is a further one."""
    value = figures.further.get(objective)
    return [] if value is None else [f"{objective} {value:.4g}"]


def _ways(decision: Decision) -> Iterable[str]:
    if decision.replicas:
        yield f"{len(decision.ways)} ways to answer; each request goes to the one expected to be done first"


def _activations(decision: Decision) -> Iterable[str]:
    """Which frames are encoded, and how many bytes that saves."""
    if not decision.activations:
        return
    sends = [send for way in decision.ways for program in way.programs.values() for send in program.sends]
    encoded = [send for send in sends if send.encoding]
    sent = sum(send.num_bytes for send in encoded)
    plain = sum(wire_bytes(send.region.shape, send.dtype, "") for send in encoded)
    yield (
        f"activations as {decision.activations} on slow links: {len(encoded)} of {len(sends)} frames, "
        f"{format_bytes(sent)} instead of {format_bytes(plain)}; answers are not exactly those of one device"
    )


def _bound(weighed: Weighed) -> Iterable[str]:
    bound_s, latency_s = weighed.lower_bound_s, weighed.figures.latency_s
    if bound_s is not None and bound_s > 0 and latency_s is not None:
        yield (
            f"no plan is predicted to take less than {format_seconds(bound_s)}; "
            f"this one takes {100 * (latency_s / bound_s - 1):.0f} % more"
        )


def _verdict(decision: Decision, weighed: Weighed) -> Iterable[str]:
    """How the plan compares with the best device alone."""
    alone = [
        (latency_s, item.label)
        for item in weighed.candidates
        if item.label.startswith("single on ") and (latency_s := item.latency_s) is not None
    ]
    if not alone or decision.replicas:
        return
    best_s, label = min(alone, key=lambda item: item[0])
    latency_s = weighed.figures.latency_s
    if len(decision.devices) == 1 and len(decision.cluster.devices) > 1:
        yield f"one device alone is faster than any split that was tried ({label})"
    elif len(decision.devices) > 1 and latency_s is not None:
        ratio = best_s / latency_s
        yield f"{ratio:.2f}x the speed of the best device alone ({label}, {format_seconds(best_s)})"


def _stage_lines(decision: Decision) -> Iterable[str]:
    """Runs of stages of one kind on the same devices, with each device's share of their work."""
    for number, way in enumerate(decision.ways):
        if decision.replicas:
            yield f"  way {number + 1}"
        yield from _way_lines(way)


def _way_lines(way: Decision) -> Iterable[str]:
    devices = way.cluster.devices
    for (kind, ranks), group in groupby(way.stages, key=lambda stage: (stage.kind, stage.devices)):
        stages = list(group)
        work = _flops_by_rank(way, stages)
        total = sum(work.values())
        names = [name for stage in stages for name in stage.operators]
        first, last = (names[0], names[-1]) if names else ("-", "-")
        where = f"{stages[0].name}..{stages[-1].name}" if len(stages) > 1 else stages[0].name
        yield (
            f"  {where:<11} {KINDS.get(kind, kind)}: {len(names)} operators, {first} to {last}, "
            f"{format_flops(total)}"
        )
        if any(stage.claimants for stage in stages):
            num_tasks = sum(len(stage.shards) for stage in stages)
            claimants = ", ".join(devices[rank].name for rank in ranks)
            yield f"  {'':<11} {num_tasks} tasks, each claimed by the first idle device of {claimants}"
        elif len(ranks) > 1:
            shares = [f"{devices[rank].name} {100 * work[rank] / max(1, total):.0f} %" for rank in ranks]
            yield f"  {'':<11} {', '.join(shares)}"
        elif ranks:
            yield f"  {'':<11} {devices[ranks[0]].name}"


def _flops_by_rank(way: Decision, stages: Sequence[Stage]) -> Mapping[int, int]:
    work: dict[int, int] = {}
    for stage in stages:
        for shard in stage.shards:
            flops = stage_kernels(way.graph, stage, shard).flops if stage.operators else 0
            work[shard.device] = work.get(shard.device, 0) + flops
    return work


def _device_lines(decision: Decision) -> Iterable[str]:
    """Work, traffic and memory of each device over all ways, then the client's traffic in the first way."""
    memory = plan_memory_bytes(decision)
    for rank, device in enumerate(decision.cluster.devices):
        programs = [way.programs[rank] for way in decision.ways if rank in way.programs]
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
    sent, messages = _sent(decision.programs[CLIENT])
    yield f"  {'client':<12} {'':>12}  sends {format_bytes(sent):>10} in {messages} messages"


def _flops(program: Program) -> int:
    return sum(item.flops for item in program.instructions if isinstance(item, Compute))


def _sent(program: Program) -> tuple[int, int]:
    """Return (bytes, frames) that a program sends for one request."""
    sends = [item for item in program.instructions if isinstance(item, Send)]
    return sum(item.num_bytes for item in sends), len(sends)


def _candidate_lines(weighed: Weighed) -> Iterable[str]:
    shown = weighed.candidates[:_MAX_CANDIDATES]
    width = max(len(item.label) for item in shown)
    for item in shown:
        mark = "*" if item.label == weighed.chosen else " "
        yield f"{mark} {item.label:<{width}}  {_candidate_figures(item, weighed.objective)}"
    if len(weighed.candidates) > _MAX_CANDIDATES:
        yield f"  and {len(weighed.candidates) - _MAX_CANDIDATES} more"


def _candidate_figures(item: Candidate, objective: str) -> str:
    """The latency of a candidate, and the figure of the objective; or why it was not predicted."""
    figures = item.figures
    if figures.latency_s is None:
        return item.reason
    latency = format_seconds(figures.latency_s)
    further = _further(figures, objective)
    if objective == "throughput" and figures.period_s:
        further = [f"{_per_s(figures.period_s)} requests/s"]
    elif objective == "energy" and figures.energy_j is not None:
        further = [f"{figures.energy_j:.3g} J"]
    return ", ".join([f"{latency:>10}", *further]) if further else latency
