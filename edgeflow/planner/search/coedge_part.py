"""The part of a graph that CoEdge splits by rows, and the rest, which one device runs."""

from __future__ import annotations

from functools import cached_property

from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.estimates.wires import Wires
from edgeflow.planner.layouts.layout import names_of
from edgeflow.planner.layouts.levels import levels
from edgeflow.planner.layouts.partition import rows_partition
from edgeflow.planner.layouts.rows import owned_rows
from edgeflow.planner.task import Task


class SplitPart:
    """Operators ``[0, end)`` in rows on some of ``devices``; the operators behind them on one device.

    Attributes:
        num_rows: Rows of the tensor with the most rows.
        layers: Positions of operators, by the number of exchanges before them when all devices take part.
    """

    def __init__(self, task: Task, end: int, devices: tuple[int, ...]) -> None:
        self.devices = devices
        self.task = task
        self.operators = task.graph.operators[:end]
        self.rest = task.graph.operators[end:]
        self.labels = task.analysis.labels
        self.costs = task.strips
        self.wires = Wires(task.cost)
        self.num_rows = max(
            task.analysis.full(name)[dim].length
            for name, dim in self.labels.items()
            if name in task.graph.inputs or task.graph.producer[name] in self.operators
        )
        self.layers = self._find_layers()

    def _find_layers(self) -> list[list[int]]:
        """Positions of operators, by the number of exchanges before them when all devices take part."""
        task = self.task
        speeds = [task.speeds[rank] for rank in self.devices]
        partition = rows_partition(self.labels, self.devices, speeds)
        owned = owned_rows(
            task.analysis, self.operators, self.labels, partition, self.devices, rest=self.devices[0]
        )
        found = levels(task.analysis, self.operators, owned)
        layers: list[list[int]] = [[] for _ in range(1 + max(found.values()))]
        for index, op in enumerate(self.operators):
            layers[found[op.name]].append(index)
        return layers

    def holds(self, rank: int) -> bool:
        """Whether a device holds the weights and one row."""
        return self.largest_share(rank, is_rest=False) * self.num_rows >= 1

    @cached_property
    def rest_cost(self) -> dict[int, tuple[float, float]]:
        """Rank -> seconds and joules of the rest."""
        found = {}
        factors = self.task.cost.factors(names_of(self.rest))
        strips = [(self.costs.of(op, is_whole=True), factors.get(op.name, 1.0)) for op in self.rest]
        flops = sum(item.flops for item, _ in strips)
        for rank in self.devices:
            device = self.task.cluster.devices[rank]
            seconds = sum(float(item.seconds[rank, -1]) * factor for item, factor in strips)
            seconds += self.task.cost.start_s(rank) if strips else 0.0
            found[rank] = (seconds, device.power_compute_w * seconds + device.joules_per_flop * flops)
        return found

    def largest_share(self, rank: int, *, is_rest: bool) -> float:
        """Return the share of the rows that fits in memory beside the weights: an estimate."""
        weights, activations = self._num_bytes
        free = self.task.cluster.devices[rank].memory_bytes - weights
        if is_rest:
            free -= self._rest_weight_bytes
        return min(1.0, max(0.0, free / max(1, activations)))

    @cached_property
    def _num_bytes(self) -> tuple[int, int]:
        """Bytes of the split part's weights, and of its activations at their peak."""
        graph = self.task.graph
        inside = {op.name for op in self.operators}
        leaving = tuple(
            (name, Piece(self.task.analysis.full(name)))
            for op in self.operators
            for name in op.used_outputs
            if name in graph.outputs
            or any(reader.name not in inside for reader in graph.consumers.get(name, ()))
        )
        stage = Stage(name="", kind="", operators=names_of(self.operators), shards=())
        made = stage_kernels(graph, stage, Shard(0, leaving))
        return sum(item.num_bytes for item in made.weights), made.peak_bytes

    @cached_property
    def _rest_weight_bytes(self) -> int:
        weights = {name for op in self.rest for name in op.inputs if name in self.task.graph.weights}
        return sum(self.task.graph.specs[name].num_bytes for name in weights)
