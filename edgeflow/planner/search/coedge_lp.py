"""The linear programme of CoEdge, solved by HiGHS; see `edgeflow.planner.strategies.coedge`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import msgspec
import numpy as np

from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import stage_kernels
from edgeflow.planner.estimates.arrays import Floats, Ints
from edgeflow.planner.estimates.wires import Wires
from edgeflow.planner.layouts.layout import names_of
from edgeflow.planner.layouts.levels import levels
from edgeflow.planner.layouts.partition import rows_partition
from edgeflow.planner.layouts.rows import owned_rows
from edgeflow.planner.task import Task
from edgeflow.sharding.region import split_interval

#: Weight of seconds beside joules, so that among splits of equal energy the faster one is taken.
_TIE_BREAK = 1e-6


class Solution(msgspec.Struct, frozen=True, kw_only=True):
    """A row split.

    Attributes:
        devices: In the order of their strips.
        shares: Of the rows, before rounding; they add up to one.
        rows: Of the tensor with the most rows, whole numbers.
        rest: The device that runs what is not split.
        latency_s, energy_j: What the programme takes them to be.
        misses_s: By how much the deadline is missed; 0 if it is kept, or there is none.
        score: To compare solutions of one question by, least first.
    """

    devices: tuple[int, ...]
    shares: tuple[float, ...]
    rows: tuple[int, ...]
    rest: int
    latency_s: float
    energy_j: float
    misses_s: float = 0.0
    score: tuple[float, ...] = ()


class Programme:
    """The programmes of one graph, for any set out of some devices."""

    def __init__(self, task: Task, end: int, devices: tuple[int, ...]) -> None:
        self.devices = devices
        self._task = task
        self._operators = task.graph.operators[:end]
        self._rest = task.graph.operators[end:]
        self._labels = task.analysis.labels
        self._costs = task.strips
        self._wires = Wires(task.cost)
        self.num_rows = max(
            task.analysis.full(name)[dim].length
            for name, dim in self._labels.items()
            if name in task.graph.inputs or task.graph.producer[name] in self._operators
        )
        self._layers = self._find_layers()

    def holds(self, rank: int) -> bool:
        """Whether a device holds the weights and one row."""
        return self._largest_share(rank, is_rest=False) * self.num_rows >= 1

    def solve(
        self,
        devices: tuple[int, ...],
        *,
        energy: bool,
        deadline_s: float | None,
        least_share: float = 0.0,
    ) -> Solution | None:
        """Return the best split over exactly these devices.

        With ``energy``: the least energy that keeps the deadline, or, if none keeps it, the least latency.
        Without: the least latency.

        Args:
            least_share: What each device has at least; by default shares may be zero.

        Returns:
            None if the devices' memory does not hold all rows, or not the least share.
        """
        from scipy.optimize import linprog  # takes a while to load, and other strategies need none

        terms = _Terms(self, devices, rest=self._rest_device(devices, energy=energy))
        count, num_layers = len(devices), len(terms.fixed_s)
        per_layer = [
            np.hstack(
                [np.diag(terms.slope_s[layer]) + terms.shared_s[layer], -np.eye(num_layers)[[layer] * count]]
            )
            for layer in range(num_layers)
        ]
        upper = np.vstack(per_layer)
        bound = -terms.fixed_s.ravel()
        times = np.array([0.0] * count + [1.0] * num_layers)
        joules = np.concatenate([terms.slope_j, np.zeros(num_layers)])
        limits = [(least_share, self._largest_share(rank, is_rest=rank == terms.rest)) for rank in devices]
        if any(largest < least for least, largest in limits):
            return None
        whole = np.array([[1.0] * count + [0.0] * num_layers])

        def solved(objective: Floats, until_s: float | None) -> Floats | None:
            rows, most = upper, bound
            if until_s is not None:
                rows, most = np.vstack([upper, times]), np.append(bound, until_s - terms.rest_s)
            found = linprog(
                # HiGHS has absolute tolerances, and models differ by orders of magnitude.
                c=objective / max(float(np.abs(objective).max()), 1e-300),
                A_ub=rows / terms.unit_s,
                b_ub=most / terms.unit_s,
                A_eq=whole,
                b_eq=[1.0],
                bounds=[*limits, *[(0.0, None)] * num_layers],
                method="highs",
            )
            return np.asarray(found.x, dtype=float) if found.success else None

        x = None
        if energy:
            x = solved(
                joules + _TIE_BREAK * times * max(float(joules.max()), 1e-9) / terms.unit_s, deadline_s
            )
        if x is None:
            x = solved(times, None)
        if x is None:
            return None
        return self._solution(terms, x[:count], energy=energy, deadline_s=deadline_s)

    def given(self, devices: tuple[int, ...], shares: Sequence[float]) -> Solution:
        """Return a split with shares from elsewhere; what does not split runs on the fastest of them."""
        fastest = next(rank for rank in self._task.fastest if rank in devices)
        terms = _Terms(self, devices, rest=fastest)
        return self._solution(terms, np.array(shares), energy=False, deadline_s=None)

    def _solution(self, terms: _Terms, shares: Floats, *, energy: bool, deadline_s: float | None) -> Solution:
        latency_s = terms.latency_s(shares)
        energy_j = float(terms.slope_j @ shares) + terms.fixed_j
        misses_s = 0.0 if deadline_s is None else max(0.0, latency_s - deadline_s)
        # What HiGHS's tolerance leaves is no miss.
        misses_s = misses_s if misses_s > 1e-6 * latency_s else 0.0
        objective = (energy_j, latency_s) if energy else (latency_s, energy_j)
        return Solution(
            devices=terms.devices,
            shares=tuple(float(share) for share in shares),
            rows=largest_remainders(shares, self.num_rows),
            rest=terms.rest,
            latency_s=latency_s,
            energy_j=energy_j,
            misses_s=misses_s,
            score=(misses_s, *objective),
        )

    def _find_layers(self) -> list[list[int]]:
        """Positions of operators, by the number of exchanges before them when all devices take part."""
        task = self._task
        speeds = [task.speeds[rank] for rank in self.devices]
        partition = rows_partition(self._labels, self.devices, speeds)
        owned = owned_rows(
            task.analysis, self._operators, self._labels, partition, self.devices, rest=self.devices[0]
        )
        found = levels(task.analysis, self._operators, owned)
        layers: list[list[int]] = [[] for _ in range(1 + max(found.values()))]
        for index, op in enumerate(self._operators):
            layers[found[op.name]].append(index)
        return layers

    def _rest_device(self, devices: tuple[int, ...], *, energy: bool) -> int:
        if energy:
            return min(devices, key=lambda rank: (self._rest_cost[rank][1], self._rest_cost[rank][0], rank))
        return min(devices, key=lambda rank: (*self._rest_cost[rank], rank))

    @cached_property
    def _rest_cost(self) -> dict[int, tuple[float, float]]:
        """Rank -> seconds and joules of what is not split."""
        found = {}
        factors = self._task.cost.factors(names_of(self._rest))
        strips = [(self._costs.of(op, is_whole=True), factors.get(op.name, 1.0)) for op in self._rest]
        flops = sum(item.flops for item, _ in strips)
        for rank in self.devices:
            device = self._task.cluster.devices[rank]
            seconds = sum(float(item.seconds[rank, -1]) * factor for item, factor in strips)
            seconds += self._task.cost.start_s(rank) if strips else 0.0
            found[rank] = (seconds, device.power_compute_w * seconds + device.joules_per_flop * flops)
        return found

    # Memory

    def _largest_share(self, rank: int, *, is_rest: bool) -> float:
        """Of the rows, that the memory holds beside the weights. A plan's own check is exact."""
        weights, activations = self._num_bytes
        free = self._task.cluster.devices[rank].memory_bytes - weights
        if is_rest:
            free -= self._rest_weight_bytes
        return min(1.0, max(0.0, free / max(1, activations)))

    @cached_property
    def _num_bytes(self) -> tuple[int, int]:
        """Bytes of all weights of the part that is split, and of its activations at their peak."""
        graph = self._task.graph
        inside = {op.name for op in self._operators}
        leaving = tuple(
            (name, Piece(self._task.analysis.full(name)))
            for op in self._operators
            for name in op.used_outputs
            if name in graph.outputs
            or any(reader.name not in inside for reader in graph.consumers.get(name, ()))
        )
        stage = Stage(name="", kind="", operators=names_of(self._operators), shards=())
        made = stage_kernels(graph, stage, Shard(0, leaving))
        return sum(item.num_bytes for item in made.weights), made.peak_bytes

    @cached_property
    def _rest_weight_bytes(self) -> int:
        weights = {name for op in self._rest for name in op.inputs if name in self._task.graph.weights}
        return sum(self._task.graph.specs[name].num_bytes for name in weights)


class _Terms:
    """Coefficients for one set of devices; arrays are ``[layer, device]`` or ``[device]``.

    Attributes:
        slope_s: Seconds of a layer for all rows, on top of ``fixed_s``.
        shared_s: Seconds that everybody waits for the rows of a device, per share of them.
        fixed_s: Seconds whatever the share, halos included.
        slope_j, fixed_j: Joules for all rows, and of taking part.
        rest_s: Seconds of what is not split.
    """

    def __init__(self, programme: Programme, devices: tuple[int, ...], *, rest: int) -> None:
        self.devices, self.rest = devices, rest
        self._programme = programme
        self._ranks = list(devices)
        self.shares = self._in_proportion()
        self._known_strips: dict[int, Ints] = {}
        task = programme._task
        constants = [task.cluster.devices[rank] for rank in devices]
        self._watts = np.array([item.power_compute_w for item in constants])
        self._sent_j = np.array([item.joules_per_byte_sent for item in constants])
        self._received_j = np.array([item.joules_per_byte_received for item in constants])
        slopes, fixed = zip(*[self._compute(layer) for layer in programme._layers], strict=True)
        halos = [self._halo_bytes(layer) for layer in programme._layers]
        self.slope_s = np.array([*slopes, np.zeros(len(devices))])
        self.fixed_s = np.array([*fixed, np.zeros(len(devices))])
        self.fixed_s[: len(halos)] += [self._halo_s(item) for item in halos]
        self.shared_s = np.zeros_like(self.slope_s)
        flops = sum(programme._costs.of(op).flops for op in programme._operators)
        self.slope_j = self._watts * self.slope_s.sum(axis=0)
        self.slope_j += np.array([item.joules_per_flop for item in constants]) * flops
        self._scatter()
        self._gather()
        sent = np.sum(halos, axis=0)
        self.rest_s, rest_j = programme._rest_cost[rest]
        self.fixed_j = rest_j + float(
            self._watts @ np.array(fixed).sum(axis=0)
            + self._sent_j @ sent.sum(axis=1)
            + self._received_j @ sent.sum(axis=0)
        )
        self.unit_s = max(1e-12, float((self.slope_s + self.fixed_s).max()))

    def latency_s(self, shares: Floats) -> float:
        waits = self.shared_s @ shares
        return float(((self.slope_s * shares + self.fixed_s).max(axis=1) + waits).sum()) + self.rest_s

    def _in_proportion(self) -> list[float]:
        return [self._programme._task.speeds[rank] for rank in self.devices]

    def _compute(self, layer: Sequence[int]) -> tuple[Floats, Floats]:
        """Straight lines through the cut of an equal share and the whole."""
        cost, operators = self._programme._task.cost, [self._programme._operators[index] for index in layer]
        factors = cost.factors(names_of(operators))
        slope, fixed = np.zeros(len(self.devices)), np.array([cost.start_s(rank) for rank in self.devices])
        for op in operators:
            strips = self._programme._costs.of(op)
            seconds = factors.get(op.name, 1.0) * strips.seconds[self._ranks]
            if strips.size == 1:
                fixed += seconds[:, -1]
                continue
            few = max(1, min(strips.size - 1, strips.size // len(self.devices)))
            per_row = (seconds[:, -1] - seconds[:, few]) / (strips.size - few)
            start = np.maximum(0.0, seconds[:, -1] - per_row * strips.size)
            slope += seconds[:, -1] - start
            fixed += start
        contention = cost.contention if len(self.devices) > 1 else 1.0
        return contention * slope, contention * fixed

    def _halo_bytes(self, layer: Sequence[int]) -> Floats:
        """``[from, to]``: rows of tensors of earlier layers that a device reads and another one owns."""
        programme, inside = self._programme, set(layer)
        total = np.zeros((len(self.devices), len(self.devices)))
        position = {op.name: index for index, op in enumerate(programme._operators)}
        done: set[str] = set()
        for index in layer:
            strips = programme._costs.of(programme._operators[index])
            made = self._strips(strips.size) if strips.size > 1 else None
            for reads in strips.reads:
                producer = programme._task.graph.producer.get(reads.tensor)
                if producer is None or position[producer.name] in inside or reads.tensor in done:
                    continue
                done.add(reads.tensor)
                dim = programme._labels[reads.tensor]
                length = programme._task.analysis.full(reads.tensor)[dim].length
                owned = self._strips(length)
                if made is None:
                    need = np.tile([0, length], (len(self.devices), 1))
                else:
                    last = np.maximum(made[:, 1] - 1, 0)
                    need = np.stack([reads.first[np.minimum(made[:, 0], last)], reads.stop[last]], axis=1)
                    need[made[:, 1] <= made[:, 0]] = 0
                overlap = np.minimum(owned[:, None, 1], need[None, :, 1]) - np.maximum(
                    owned[:, None, 0], need[None, :, 0]
                )
                total += np.maximum(overlap, 0) * programme._costs.position_bytes(reads.tensor)
        np.fill_diagonal(total, 0.0)
        return total

    def _strips(self, size: int) -> Ints:
        """``[device, 2]``: first and stop of each device's positions, in proportion to speed."""
        if size not in self._known_strips:
            self._known_strips[size] = np.array(split_interval(size, self.shares))
        return self._known_strips[size]

    def _halo_s(self, num_bytes: Floats) -> Floats:
        """Seconds for each device to take in its halos, one after another."""
        wires, grid = self._programme._wires, np.ix_(self._ranks, self._ranks)
        frames = wires.frame_s[self._ranks]
        is_sent = num_bytes > 0
        seconds = num_bytes * wires.byte_s[grid] + is_sent * (frames[:, None] + frames[None, :])
        halo: Floats = seconds.sum(axis=0) + (is_sent * wires.latency_s[grid]).max(axis=0)
        return halo

    def _scatter(self) -> None:
        """Rows of the inputs leave the client one device after another."""
        programme = self._programme
        graph, wires = programme._task.graph, programme._wires
        rows = sum(graph.specs[name].num_bytes for name in graph.inputs if name in programme._labels)
        copied = sum(graph.specs[name].num_bytes for name in graph.inputs if name not in programme._labels)
        byte_s = wires.byte_s[-1, self._ranks]
        self.shared_s[0] += rows * byte_s
        self.fixed_s[0] += copied * byte_s + wires.latency_s[-1, self._ranks] + wires.frame_s[self._ranks]
        self._charge(rows, source=programme._task.cluster.source_rank)

    def _gather(self) -> None:
        """Rows that the rest, or the client, reads come in one device after another."""
        programme = self._programme
        graph, wires = programme._task.graph, programme._wires
        rest = {op.name for op in programme._rest}
        for to, tensors in (
            (self.rest, [n for n in self._made() if any(r.name in rest for r in graph.consumers.get(n, ()))]),
            (-1, [name for name in self._made() if name in graph.outputs]),
        ):
            if not tensors:
                continue
            rows = sum(graph.specs[name].num_bytes for name in tensors if name in programme._labels)
            column = to if to >= 0 else wires.count - 1
            self.shared_s[-1] += rows * wires.byte_s[self._ranks, column]
            self.fixed_s[-1] += max(
                wires.latency_s[rank, column] + wires.frame_s[rank] for rank in self._ranks
            )
            sink = to if to >= 0 else programme._task.cluster.source_rank
            away = np.array([rank != sink for rank in self._ranks])
            self.slope_j += away * rows * self._sent_j
            self.slope_j += away * rows * programme._task.cluster.devices[sink].joules_per_byte_received

    def _made(self) -> list[str]:
        return [name for op in self._programme._operators for name in op.used_outputs]

    def _charge(self, num_bytes: float, *, source: int) -> None:
        away = np.array([rank != source for rank in self._ranks])
        sender = self._programme._task.cluster.devices[source]
        self.slope_j += away * num_bytes * (sender.joules_per_byte_sent + self._received_j)


def largest_remainders(shares: Sequence[float] | Floats, total: int) -> tuple[int, ...]:
    """Return whole numbers that add up to ``total``, in proportion to shares that add up to one.

    What rounding down leaves goes to the largest remainders, to the first among equals.

    Examples:
        >>> largest_remainders([0.5, 0.3, 0.2], 7)
        (4, 2, 1)
    """
    exact = [max(0.0, float(share)) * total for share in shares]
    rows = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(rows)), key=lambda index: (rows[index] - exact[index], index))
    for index in order[: max(0, total - sum(rows))]:
        rows[index] += 1
    return tuple(rows)
