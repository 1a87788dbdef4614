"""Contiguous stages on one device each, handed from one to the next; requests follow each other.

An exact dynamic programme over (stretches done, set of used devices, last device), under estimates: for
throughput the slowest stage or hand-over is made small, for latency their sum, for energy their joules. Each
device holds one stage, so memory is checked stage by stage, within the programme: weights exactly, and room
for buffers as far as earlier answers have shown that it is needed. Devices that are alike in everything count
as one type of which so many may be used. With too many sets of types, only the fastest devices take part.

What is reconstructed: PipeEdge's programme (there with bandwidth per device; here per pair) and EdgeShard's
two objectives (there memory is not part of the state; a device cannot be used twice here, so it need not be).

References:
    Hu, Imes, Zhao, Kundu, Beerel, Crago, Walters, "PipeEdge: Pipeline Parallelism for Large-Scale Model
    Inference on Heterogeneous Edge Devices", DSD 2022.
    Zhang, Shen, Zhang, Cheng, "EdgeShard: Efficient LLM Inference via Collaborative Edge Computing", IEEE
    Internet of Things Journal, 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edgeflow.errors import InfeasiblePlanError
from edgeflow.plan.plan import Plan
from edgeflow.planner.layouts.layout import Layout
from edgeflow.planner.search.pipeline_dp import PipelineProgramme, PipelineStage, types_of
from edgeflow.planner.task import Run, Task, best_of, finish_runs

#: Solutions tried until one fits together with its buffers.
_MAX_TRIES: Final = 8


def pipeline(task: Task) -> Plan:
    """Return the best pipeline of any number of devices, one included.

    Raises:
        InfeasiblePlanError: If no pipeline fits the devices' memory.
    """
    if not task.graph.operators:
        return finish_runs(task, [], strategy="pipeline", label="pipeline of 0 stages")
    #: Bytes that devices of one type keep free of weights, for buffers.
    reserved: dict[int, int] = {}
    failures: list[tuple[str, InfeasiblePlanError]] = []
    for _ in range(_MAX_TRIES):
        found = PipelineProgramme(task, reserved).solve()
        if found is None:
            break
        runs = [
            Run(
                task.analysis.operators_of(part.start, part.stop),
                Layout(kind="single", devices=(part.rank,)),
            )
            for part in found
        ]
        label = f"pipeline of {len(runs)} stage{'s' if len(runs) != 1 else ''}"
        try:
            plans = [finish_runs(task, runs, strategy="pipeline", label=label)]
        except InfeasiblePlanError as error:
            failures.append((label, error))
            if not _reserve(task, found, error, reserved):
                break
        else:
            return best_of(plans, objective=task.objective, strategy="pipeline")
    if failures:
        return best_of([], objective=task.objective, strategy="pipeline", failures=failures)
    raise _nothing_fits(task)


def _reserve(
    task: Task, parts: Sequence[PipelineStage], error: InfeasiblePlanError, reserved: dict[int, int]
) -> bool:
    """Reserve what a stage takes beside its weights; False if memory was not the cause."""
    part = next((item for item in parts if task.cluster.devices[item.rank].name == error.device), None)
    if error.constraint != "memory" or error.required is None or part is None:
        return False
    first = next((members[0] for members in types_of(task) if part.rank in members), part.rank)
    reserved[first] = int(error.required) - task.analysis.weight_bytes(part.start)[part.stop - part.start]
    return True


def _nothing_fits(task: Task) -> InfeasiblePlanError:
    """Return the error with the roomiest device and the bytes that it would have to hold."""
    devices = task.cluster.devices
    roomiest = max(devices, key=lambda device: device.memory_bytes)
    count = len(task.analysis.stretches)
    total = task.analysis.weight_bytes()[-1]
    offered = sum(device.memory_bytes for device in devices)
    share = -(-total * roomiest.memory_bytes // offered)
    required = max(share, *(task.analysis.weight_bytes(index)[1] for index in range(count)))
    if required <= roomiest.memory_bytes:  # there is room, but not in pieces that stretches fit
        required = total
    return InfeasiblePlanError(
        f"no pipeline fits: device {roomiest.name!r} needs {required:,} bytes for its part of the weights, "
        f"it offers {roomiest.memory_bytes:,} (all devices {offered:,}, all weights {total:,})",
        constraint="memory",
        required=required,
        available=roomiest.memory_bytes,
        device=roomiest.name,
    )
