"""The contract of every decision: all operators, in order; needs covered; sums whole; memory kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InfeasiblePlanError, InvalidPlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.decision import Decision
from edgeflow.plan.program import CLIENT, Program, WeightSlice
from edgeflow.plan.stage import Piece, Stage
from edgeflow.sharding.region import Interval, Region
from edgeflow.sharding.rules import contraction_size

#: (device, tensor) -> the pieces that the device has made of it so far.
_Made = dict[tuple[int, str], list[Piece]]


def verify(decision: Decision) -> None:
    """Check a decision; lowering, which this includes, checks that the needs of each stage are owned by then.

    Raises:
        InvalidPlanError: If an operator is missing, twice in a stage or before its inputs; a piece lies
            outside of its tensor; a device is not in the cluster, or makes something twice; partial sums
            leave a gap, overlap, or come from several stages; tasks read anything but inputs of the graph;
            or a need is not covered.
        InfeasiblePlanError: If a device's memory does not hold its weights and buffers, or a program sends to
            a device that it has no link to.
    """
    for way in decision.ways:
        _verify_way(way)
    verify_memory(decision)


def verify_memory(decision: Decision) -> None:
    """Check that every device's memory holds its part; planning asks no more of each candidate.

    Raises:
        InfeasiblePlanError: If a device's memory does not hold its weights and buffers.
        InvalidPlanError: If a need is not covered.
    """
    for rank, required in plan_memory_bytes(decision).items():
        device = decision.cluster.devices[rank]
        if required > device.memory_bytes:
            raise InfeasiblePlanError(
                f"device {device.name!r} needs {required:,} bytes for weights and buffers, "
                f"it offers {device.memory_bytes:,}",
                constraint="memory",
                required=required,
                available=device.memory_bytes,
                device=device.name,
            )


def _verify_way(way: Decision) -> None:
    _check_operators(way.graph, way.stages)
    summed: dict[str, str] = {}
    computed: _Made = {}
    for stage in way.stages:
        made = computed if stage.operators else {}
        _check_shards(way.graph, stage, made, num_devices=len(way.cluster.devices))
        _check_tasks(way.graph, stage)
        for tensor in stage.outputs:
            _check_sum(way.graph, stage, tensor, summed)
    _check_links(way.cluster, way.programs)


def plan_memory_bytes(decision: Decision) -> dict[int, int]:
    """Return rank -> bytes of its weight slices, each once, and of the buffers of every way at its peak."""
    weights: dict[int, dict[WeightSlice, None]] = {}
    buffers: dict[int, int] = {}
    for way in decision.ways:
        for rank, program in way.programs.items():
            if rank != CLIENT:
                weights.setdefault(rank, {}).update(dict.fromkeys(program.weights))
                buffers[rank] = buffers.get(rank, 0) + program.peak_bytes
    return {rank: buffers[rank] + sum(item.num_bytes for item in kept) for rank, kept in weights.items()}


def memory_bytes(programs: Mapping[int, Program]) -> dict[int, int]:
    """Return rank -> bytes of its weight slices and of its buffers at their peak, for one way."""
    return {
        rank: program.peak_bytes + sum(item.num_bytes for item in program.weights)
        for rank, program in programs.items()
        if rank != CLIENT
    }


def _check_links(cluster: Cluster, programs: Mapping[int, Program]) -> None:
    pairs = {(rank, item.peer) for rank, program in programs.items() for item in program.sends}
    for rank, peer in sorted(pairs):
        cluster.path(rank, peer)  # raises if there is none


def _check_operators(graph: ModelGraph, stages: tuple[Stage, ...]) -> None:
    seen: dict[str, str] = {}
    for stage in stages:
        for name in stage.operators:
            if name not in graph.by_name:
                raise InvalidPlanError(f"stage {stage.name!r} names operator {name!r}, which the graph lacks")
            if seen.get(name) == stage.name:
                raise InvalidPlanError(f"operator {name!r} is twice in stage {stage.name!r}")
            seen[name] = stage.name
            for tensor in graph.activation_inputs(graph.by_name[name]):
                producer = graph.producer.get(tensor)
                if producer is not None and producer.name not in seen:
                    raise InvalidPlanError(
                        f"stage {stage.name!r}: operator {name!r} stands before {producer.name!r}, "
                        "which it reads"
                    )
    missing = [op.name for op in graph.operators if op.name not in seen]
    if missing:
        raise InvalidPlanError(f"{len(missing)} operators are in no stage, the first is {missing[0]!r}")


def _check_shards(graph: ModelGraph, stage: Stage, made: _Made, *, num_devices: int) -> None:
    for shard in stage.shards:
        if not 0 <= shard.device < num_devices:
            raise InvalidPlanError(
                f"stage {stage.name!r}: rank {shard.device} is not in a cluster of {num_devices} devices"
            )
        counts = Counter(tensor for tensor, _ in shard.outputs)
        if any(piece.contraction is not None and counts[tensor] > 1 for tensor, piece in shard.outputs):
            raise InvalidPlanError(
                f"stage {stage.name!r}: rank {shard.device} has two pieces of a partial sum"
            )
        for tensor, piece in shard.outputs:
            spec = graph.specs.get(tensor)
            if spec is None:
                raise InvalidPlanError(f"stage {stage.name!r} names tensor {tensor!r}, which the graph lacks")
            whole = Region.full(spec.shape)
            if len(piece.region) != spec.ndim or piece.region.is_empty or not whole.contains(piece.region):
                raise InvalidPlanError(
                    f"stage {stage.name!r}, rank {shard.device}: {piece.region} is no region of "
                    f"{tensor!r} {spec.shape}"
                )
            others = made.setdefault((shard.device, tensor), [])
            if any(_overlap(piece, other) for other in others):
                raise InvalidPlanError(
                    f"stage {stage.name!r}: rank {shard.device} makes parts of {piece.region} of {tensor!r} "
                    "twice"
                )
            others.append(piece)


def _check_tasks(graph: ModelGraph, stage: Stage) -> None:
    """Check that claimants differ, and that tasks read only inputs of the graph and make no partial sums."""
    if not stage.claimants:
        return
    where = f"stage {stage.name!r}: tasks"
    if len(set(stage.claimants)) < len(stage.claimants):
        raise InvalidPlanError(f"{where} are claimed by {stage.claimants}, a device twice")
    own = {name for op in stage.operators for name in graph.by_name[op].outputs}
    for name in stage.operators:
        foreign = [
            tensor
            for tensor in graph.activation_inputs(graph.by_name[name])
            if tensor not in own and tensor not in graph.inputs
        ]
        if foreign:
            raise InvalidPlanError(f"{where} read {foreign[0]!r}, which is no input of the graph")
    for shard in stage.shards:
        partial = [tensor for tensor, piece in shard.outputs if piece.contraction is not None]
        if partial:
            raise InvalidPlanError(f"{where} make a partial sum of {partial[0]!r}")
    if not stage.operators:
        raise InvalidPlanError(f"{where} cannot be claimed in a stage without operators")


def _overlap(a: Piece, b: Piece) -> bool:
    if a.region.intersect(b.region).is_empty:
        return False
    if a.contraction is None or b.contraction is None:
        return True
    return a.contraction.intersect(b.contraction).length > 0


def _check_sum(graph: ModelGraph, stage: Stage, tensor: str, summed: dict[str, str]) -> None:
    """Check that partial sums cover the summed-over dim, each element once, in one stage."""
    pieces = [piece for shard in stage.shards if (piece := shard.piece(tensor)) is not None]
    if stage.operators and tensor in summed:
        raise InvalidPlanError(
            f"stage {stage.name!r} makes {tensor!r}, of which stage {summed[tensor]!r} makes partial sums"
        )
    intervals = sorted(piece.contraction for piece in pieces if piece.contraction is not None)
    if not intervals:
        return
    summed[tensor] = stage.name
    where = f"stage {stage.name!r}: the partial sums of {tensor!r}"
    if not stage.operators:
        raise InvalidPlanError(f"{where} cannot be: a stage without operators makes none")
    if len(intervals) != len(pieces):
        raise InvalidPlanError(f"{where} are mixed with whole pieces")
    if len({piece.region for piece in pieces}) != 1:
        raise InvalidPlanError(f"{where} cover different regions")
    producer = graph.producer.get(tensor)
    size = None if producer is None else contraction_size(producer, graph.specs)
    if size is None:
        raise InvalidPlanError(f"{where} cannot be: its operator does not sum")
    if _gaps(intervals, size):
        raise InvalidPlanError(f"{where} cover {[tuple(i) for i in intervals]}, not [0, {size}) each once")


def _gaps(intervals: list[Interval], size: int) -> bool:
    bounds = [0] + [interval.stop for interval in intervals]
    starts = [interval.start for interval in intervals]
    return bounds[:-1] != starts or bounds[-1] != size
