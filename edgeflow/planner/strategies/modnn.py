"""MoDNN: every convolution in strips over all devices, its result gathered at the group owner.

Biased one-dimensional partition: strips along the longer edge of the image, in proportion to speed, rounded
by largest remainders, each with the halo that its rows need. After each layer the group owner (the device
where requests arrive) gathers the whole result and hands out the strips of the next: no other device keeps
what was gathered. What follows a convolution elementwise runs on the strips, pools and everything else on the
group owner. A fully connected layer is cut by columns over all devices where that is expected to be faster
than the group owner alone.

Reconstructed from the abstract and from descriptions in later papers, since the body of the paper was not
at hand. Left out: clustering the non-zeros of sparse weight matrices (modified spectral co-clustering,
fine-grain cross partition), since weights here are dense; and the time to wake radios up, of which the cost
model has the frames' own costs.

References:
    Mao, Chen, Nixon, Krieger, Chen, "MoDNN: Local Distributed Mobile Computing System for Deep Neural
    Network", Design, Automation & Test in Europe (DATE), 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.analysis import Analysis, Labels
from edgeflow.planner.layouts.hub import Layer, drafts_around, gathered, is_convolution, with_followers
from edgeflow.planner.layouts.layout import Draft, close, names_of
from edgeflow.planner.layouts.partition import along, apportioned
from edgeflow.planner.task import Task, finish
from edgeflow.sharding.region import Region


def modnn(task: Task) -> Plan:
    """Return the plan of strips and gathers.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part, or has no link to the group owner.
    """
    analysis, owner = task.analysis, task.cluster.source_rank
    # The group owner comes first, so that it is not the one to get the rows that do not divide.
    devices = (owner, *(rank for rank in task.cluster.ranks if rank != owner))
    labels = _longer_edge(analysis)

    def layer_of(op: Operator) -> Layer | None:
        if len(devices) == 1 or len(op.outputs) != 1:
            return None
        if is_convolution(op) and labels.get(op.output, 0) >= 2:
            members = with_followers(analysis, op, labels[op.output])
            return members, _cut(task, members, labels[op.output], devices, kind="rows")
        dim = None if is_convolution(op) else analysis.column_dim(op)
        if dim is None:
            return None
        members = with_followers(analysis, op, dim)
        stages = _cut(task, members, dim, devices, kind="columns")
        return (members, stages) if _is_faster(task, members, stages[0], owner) else None

    stages = close(analysis, drafts_around(analysis, owner, layer_of))
    return finish(task, stages, strategy="modnn", label=f"modnn strips on {len(devices)} devices")


def _longer_edge(analysis: Analysis) -> Labels:
    """The labels along the longer spatial edge of what the first convolution reads; none without one."""
    best: tuple[int, Labels] = (0, {})
    for labels in analysis.labellings:
        first = next((op for op in analysis.graph.operators if is_convolution(op)), None)
        if first is None or labels.get(first.output, 0) < 2:
            continue
        name = first.inputs[0]
        edge = analysis.graph.specs[name].shape[labels.get(name, labels[first.output])]
        if edge > best[0]:
            best = (edge, labels)
    return best[1]


def _cut(
    task: Task, members: Sequence[Operator], dim: int, devices: Sequence[int], *, kind: str
) -> tuple[Draft, Draft]:
    """A layer cut along ``dim`` of its result, which the group owner then gathers."""
    tensor = members[-1].output
    full = task.analysis.full(tensor)
    intervals = apportioned(full[dim].length, [task.speeds[rank] for rank in devices])
    boxes = along(full, dim, devices, intervals)
    pieces = {device: {tensor: Piece(box)} for device, box in boxes.items()}
    return Draft(kind, names_of(members), pieces), gathered(task.analysis, tensor, devices[0])


def _is_faster(task: Task, members: Sequence[Operator], cut: Draft, owner: int) -> bool:
    """Whether the group owner is done sooner with help than alone.

    Sends leave the owner one after another, results come back one after another; what overlaps beyond that
    is ignored, in disfavour of help.
    """
    tensor = members[-1].output
    alone_s, _ = _work(task, members, owner, task.analysis.full(tensor))
    if alone_s <= 2 * task.cost.message_s(owner):
        return False
    itemsize = task.graph.specs[tensor].itemsize
    sent_s, last_s, gather_s = 0.0, 0.0, 0.0
    for device, pieces in sorted(cut.pieces.items(), key=lambda item: item[0] == owner):
        region = pieces[tensor].region
        work_s, num_bytes = _work(task, members, device, region)
        if device != owner:
            result_bytes = region.num_elements * itemsize
            sent_s += task.cluster.distance_s(owner, device, num_bytes) + task.cost.message_s(
                owner, num_bytes
            )
            work_s += task.cost.message_s(device, num_bytes) + task.cost.message_s(device, result_bytes)
            gather_s += task.cluster.distance_s(device, owner, result_bytes)
            gather_s += task.cost.message_s(owner, result_bytes)
        last_s = max(last_s, sent_s + work_s)
    return last_s + gather_s < alone_s


def _work(task: Task, members: Sequence[Operator], device: int, region: Region) -> tuple[float, int]:
    """Seconds of a layer's part on a device, and the bytes of activations that it reads."""
    stage = Stage(name="", kind="", operators=names_of(members), shards=())
    work = stage_kernels(task.graph, stage, Shard(device, ((members[-1].output, Piece(region)),)))
    read = sum(need.num_elements * task.graph.specs[name].itemsize for name, need in work.needs)
    return task.cost.compute_s(device, work.kernels), read
