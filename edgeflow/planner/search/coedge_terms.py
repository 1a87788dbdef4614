"""Coefficients of CoEdge's linear programme for one set of devices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeflow.planner.estimates.arrays import Floats, Ints
from edgeflow.planner.layouts.layout import names_of
from edgeflow.planner.search.coedge_part import SplitPart
from edgeflow.sharding.region import split_interval


class Terms:
    """Coefficients for one set of devices; arrays are ``[layer, device]`` or ``[device]``.

    Attributes:
        slope_s: Seconds of a layer for all rows, on top of ``fixed_s``.
        shared_s: Seconds that every device waits for the rows of one device, per unit of its share.
        fixed_s: Seconds whatever the share, halos included.
        slope_j, fixed_j: Joules for all rows, and of taking part.
        rest_s: Seconds of the rest.
    """

    def __init__(self, part: SplitPart, devices: tuple[int, ...], *, rest: int) -> None:
        self.devices, self.rest = devices, rest
        self._part = part
        self._ranks = list(devices)
        self.shares = self._in_proportion()
        self._known_strips: dict[int, Ints] = {}
        task = part.task
        constants = [task.cluster.devices[rank] for rank in devices]
        self._watts = np.array([item.power_compute_w for item in constants])
        self._sent_j = np.array([item.joules_per_byte_sent for item in constants])
        self._received_j = np.array([item.joules_per_byte_received for item in constants])
        slopes, fixed = zip(*[self._compute(layer) for layer in part.layers], strict=True)
        halos = [self._halo_bytes(layer) for layer in part.layers]
        self.slope_s = np.array([*slopes, np.zeros(len(devices))])
        self.fixed_s = np.array([*fixed, np.zeros(len(devices))])
        self.fixed_s[: len(halos)] += [self._halo_s(item) for item in halos]
        self.shared_s = np.zeros_like(self.slope_s)
        flops = sum(part.costs.of(op).flops for op in part.operators)
        self.slope_j = self._watts * self.slope_s.sum(axis=0)
        self.slope_j += np.array([item.joules_per_flop for item in constants]) * flops
        self._scatter()
        self._gather()
        sent = np.sum(halos, axis=0)
        self.rest_s, rest_j = part.rest_cost[rest]
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
        return [self._part.task.speeds[rank] for rank in self.devices]

    def _compute(self, layer: Sequence[int]) -> tuple[Floats, Floats]:
        """Return slopes and fixed parts of the straight lines through an equal share and the whole."""
        cost, operators = self._part.task.cost, [self._part.operators[index] for index in layer]
        factors = cost.factors(names_of(operators))
        slope, fixed = np.zeros(len(self.devices)), np.array([cost.start_s(rank) for rank in self.devices])
        for op in operators:
            strips = self._part.costs.of(op)
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
        part, inside = self._part, set(layer)
        total = np.zeros((len(self.devices), len(self.devices)))
        position = {op.name: index for index, op in enumerate(part.operators)}
        done: set[str] = set()
        for index in layer:
            strips = part.costs.of(part.operators[index])
            made = self._strips(strips.size) if strips.size > 1 else None
            for reads in strips.reads:
                producer = part.task.graph.producer.get(reads.tensor)
                if producer is None or position[producer.name] in inside or reads.tensor in done:
                    continue
                done.add(reads.tensor)
                dim = part.labels[reads.tensor]
                length = part.task.analysis.full(reads.tensor)[dim].length
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
                total += np.maximum(overlap, 0) * part.costs.position_bytes(reads.tensor)
        np.fill_diagonal(total, 0.0)
        return total

    def _strips(self, size: int) -> Ints:
        """``[device, 2]``: first and stop of each device's positions, in proportion to speed."""
        if size not in self._known_strips:
            self._known_strips[size] = np.array(split_interval(size, self.shares))
        return self._known_strips[size]

    def _halo_s(self, num_bytes: Floats) -> Floats:
        """Seconds for each device to take in its halos, one after another."""
        wires, grid = self._part.wires, np.ix_(self._ranks, self._ranks)
        frames = wires.frame_s[self._ranks]
        is_sent = num_bytes > 0
        seconds = num_bytes * wires.byte_s[grid] + is_sent * (frames[:, None] + frames[None, :])
        halo: Floats = seconds.sum(axis=0) + (is_sent * wires.latency_s[grid]).max(axis=0)
        return halo

    def _scatter(self) -> None:
        """Add the inputs' rows, which leave the client one device after another."""
        part = self._part
        graph, wires = part.task.graph, part.wires
        rows = sum(graph.specs[name].num_bytes for name in graph.inputs if name in part.labels)
        copied = sum(graph.specs[name].num_bytes for name in graph.inputs if name not in part.labels)
        byte_s = wires.byte_s[-1, self._ranks]
        self.shared_s[0] += rows * byte_s
        self.fixed_s[0] += copied * byte_s + wires.latency_s[-1, self._ranks] + wires.frame_s[self._ranks]
        self._charge(rows, source=part.task.cluster.source_rank)

    def _gather(self) -> None:
        """Add the rows that the rest, or the client, reads; they come in one device after another."""
        part = self._part
        graph, wires = part.task.graph, part.wires
        rest = {op.name for op in part.rest}
        for to, tensors in (
            (self.rest, [n for n in self._made() if any(r.name in rest for r in graph.consumers.get(n, ()))]),
            (-1, [name for name in self._made() if name in graph.outputs]),
        ):
            if not tensors:
                continue
            rows = sum(graph.specs[name].num_bytes for name in tensors if name in part.labels)
            column = to if to >= 0 else wires.count - 1
            self.shared_s[-1] += rows * wires.byte_s[self._ranks, column]
            self.fixed_s[-1] += max(
                wires.latency_s[rank, column] + wires.frame_s[rank] for rank in self._ranks
            )
            sink = to if to >= 0 else part.task.cluster.source_rank
            away = np.array([rank != sink for rank in self._ranks])
            self.slope_j += away * rows * self._sent_j
            self.slope_j += away * rows * part.task.cluster.devices[sink].joules_per_byte_received

    def _made(self) -> list[str]:
        return [name for op in self._part.operators for name in op.used_outputs]

    def _charge(self, num_bytes: float, *, source: int) -> None:
        away = np.array([rank != source for rank in self._ranks])
        sender = self._part.task.cluster.devices[source]
        self.slope_j += away * num_bytes * (sender.joules_per_byte_sent + self._received_j)
