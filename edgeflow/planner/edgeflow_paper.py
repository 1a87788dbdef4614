"""EdgeFlow (2022): layer by layer through a DAG, each divided as is best given what came before it.

For every layer, in topological order, boundaries ``0 = B_0 <= ... <= B_N = size`` are chosen such that the
last device is done as early as can be::

    F(v, d) = max(d is free, F(u, e) + transfer of what d needs of u and e owns) + kernel of its rows

There is no global barrier: a device begins when its own inputs are there, and devices run ahead.

The paper relaxes a layer's integer programme to a linear one. Here it is solved as it is: ``F`` grows with
the upper boundary and falls with the lower one, so for a given T the devices can be gone through in order,
each taking as many rows as it can finish by T; the least T for which they take all is found by bisection.
That is exact for the order of devices, which is that of ranks, and for the costs in use: those of
`edgeflow.planner.strips`, real cuts of 1, 2, 4, ... rows and linear in between, and frames' processor time.
Of divisions that are equally good, the one that moves the fewest rows is taken where that is possible.

Reconstructed: the abstract and a page about the paper were read, the formulas are a reconstruction; layers
are the operators that read beyond their own rows or carry weights, and what follows them elementwise stays
where it is. What has no rows runs on the device that is done with it first.
Left out, as in the paper as far as it is known: look-ahead (a layer does not know what its division costs
the next one, nor the answer's way to the client), energy, memory, waiting for shared parts of a network.
A device that cannot hold its part is left out, and all is done again.

References:
    Hu, Li, "Distributed Inference with Deep Learning Models across Heterogeneous Edge Devices", INFOCOM 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.planner.layout import close, drafts_of_runs, single_draft
from edgeflow.planner.partition import along
from edgeflow.planner.rows import feeding_labelled, owned_rows
from edgeflow.planner.strategy import Task, finish
from edgeflow.planner.strips import Floats, Ints, Reads, StripCosts, Strips, Wires, linked_devices
from edgeflow.sharding.region import Interval, Region

#: Relative precision of a layer's finishing time.
_PRECISION = 1e-7

#: ``[0, B_1, ..., size]``.
Bounds = tuple[int, ...]


def edgeflow_paper(task: Task) -> Plan:
    """Return the plan in which each layer is done as early as can be.

    Raises:
        InfeasiblePlanError: If a device cannot hold its part, whichever are left out.
    """
    devices = tuple(sorted(linked_devices(task.cost, task.fastest)))
    failure: InfeasiblePlanError | None = None
    while devices:
        divided = Division(task, devices)
        try:
            return divided.plan()
        except InfeasiblePlanError as error:
            failure = failure or error
            devices = tuple(rank for rank in devices if task.cluster.devices[rank].name != error.device)
    assert failure is not None
    raise failure


class Division:
    """The layers of a graph, divided one after another."""

    def __init__(self, task: Task, devices: Sequence[int]) -> None:
        self.devices = tuple(devices)
        #: Tensor -> who owns which of its positions: `Bounds` in the order of the devices.
        self.bounds: dict[str, Bounds] = {}
        #: Tensor -> ``[device]``: when each has its part; infinite for one that never has.
        self.ready_s: dict[str, Floats] = {}
        #: Operators that stand in one stage.
        self.layers: list[list[Operator]] = []
        self.rest: int = 0
        self._task = task
        self._costs = StripCosts(task.analysis, task.cost, task.analysis.labels)
        self._transfers = _Transfers(task, self.devices)
        self._free_s = np.zeros(len(self.devices))
        self._has_rest = False
        feeding = feeding_labelled(task.analysis, task.graph.operators, task.analysis.labels)
        for op in task.graph.operators:
            self._add(op, is_everywhere=op.name in feeding)

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            InfeasiblePlanError: If a device cannot hold its part.
        """
        task, labels = self._task, self._task.analysis.labels

        def partition(tensor: str, full: Region) -> Mapping[int, Region] | None:
            if tensor not in self.bounds:
                return None
            bounds = self.bounds[tensor]
            intervals = [Interval(a, b) for a, b in pairwise(bounds)]
            return along(full, labels[tensor], self.devices, intervals)

        operators = task.graph.operators
        rest = self.devices[self.rest]
        owned = owned_rows(task.analysis, operators, labels, partition, self.devices, rest=rest)
        used = {device for device, pieces in owned.items() if pieces}
        if len(used) == 1:
            drafts = [single_draft(task.analysis, operators, *used)]
        else:
            drafts = drafts_of_runs(self.layers, owned, kind=lambda members: "rows")
        stages = close(task.analysis, drafts)
        label = f"edgeflow_paper on {len(used)} of {len(self.devices)} devices"
        return finish(task, stages, strategy="edgeflow_paper", label=label)

    # One operator

    def _add(self, op: Operator, *, is_everywhere: bool) -> None:
        strips = self._costs.of(op)
        layer = Layer(strips, self)
        if op.first_output in self._costs.labels:
            bounds = self._followed(op, strips)
            if bounds is None:
                bounds = layer.divide()
                self.layers.append([])
            self.layers[-1].append(op)
            self._make(op, bounds, layer.finish_s(bounds))
        elif self._costs.is_sum(op) and strips.reads[0].tensor in self.bounds:
            bounds = self.bounds[strips.reads[0].tensor]
            self.layers.append([op])
            self._make(op, bounds, layer.finish_s(bounds))
        else:
            self._add_whole(op, is_everywhere=is_everywhere)

    def _followed(self, op: Operator, strips: Strips) -> Bounds | None:
        """The boundaries of what an elementwise operator reads, if it may and can have the same."""
        graph = self._task.graph
        found = {self.bounds.get(item.tensor) for item in strips.reads}
        if len(found) != 1 or strips.has_halo:
            return None
        has_weights = any(name in graph.weights and graph.specs[name].ndim > 1 for name in op.inputs)
        return None if has_weights or strips.whole else found.pop()

    def _add_whole(self, op: Operator, *, is_everywhere: bool) -> None:
        """All devices make what rows depend on; one device, the first to be done, the rest."""
        self.layers.append([op])
        strips = self._costs.of(op, is_whole=True)
        layer = Layer(strips, self)
        finish = np.array([layer.from_start_s(index, 0)[0] for index in range(len(self.devices))])
        if not is_everywhere:
            if not self._has_rest:
                self.rest, self._has_rest = int(finish.argmin()), True
            alone = np.full(len(self.devices), np.inf)
            alone[self.rest] = finish[self.rest]
            finish = alone
        self._make(op, None, finish)

    def _make(self, op: Operator, bounds: Bounds | None, finish: Floats) -> None:
        if bounds is not None:
            self._send(self._costs.of(op), bounds)
        for name in op.used_outputs:
            self.ready_s[name] = finish
            if bounds is not None and name in self._costs.labels:
                self.bounds[name] = bounds
        self._free_s = np.where(np.isfinite(finish), finish, self._free_s)

    def _send(self, strips: Strips, bounds: Bounds) -> None:
        """Frames that a layer asks for cost their senders processor time."""
        for reads in strips.reads:
            if reads.tensor not in self.bounds:
                continue
            owned = self.bounds[reads.tensor]
            for index, (start, stop) in enumerate(pairwise(bounds)):
                if stop > start:
                    first, last = int(reads.first[start]), int(reads.stop[stop - 1])
                    for sender, (a, b) in enumerate(pairwise(owned)):
                        if sender != index and min(b, last) > max(a, first):
                            self._free_s[sender] += self._transfers.frame_s[sender]

    def bounds_now(self, strips: Strips) -> Bounds | None:
        """Where the boundaries would lie if rows stayed where they are; None if all are at the client."""
        sources = [item.tensor for item in strips.reads if item.tensor in self.bounds]
        if not sources:
            return None
        heaviest = max(sources, key=lambda name: self._task.graph.specs[name].num_bytes)
        bounds = self.bounds[heaviest]
        scale = strips.size / bounds[-1]
        return tuple(int(bound * scale + 0.5) for bound in bounds)

    # What a strip waits for

    def arrival_s(self, index: int, reads: Reads, first: int, stops: Ints) -> Floats:
        """When device ``index`` has positions ``first .. stop`` of a tensor, for each of ``stops``."""
        num_bytes = self._costs.position_bytes(reads.tensor)
        bounds = self.bounds.get(reads.tensor)
        if bounds is None:  # an input
            count = np.maximum(stops - first, 0)
            return np.where(count > 0, self._transfers.from_client_s(index, count * num_bytes), 0.0)
        # Only those that own something of it take part: most strips need their own rows and a neighbour's.
        owned = np.array(bounds)
        near = np.flatnonzero((owned[:-1] < stops[-1]) & (owned[1:] > first))
        count = np.minimum(stops, owned[1:][near, None]) - np.maximum(first, owned[:-1][near, None])
        is_sent = count > 0
        ready = self.ready_s[reads.tensor][near, None]
        times = ready + self._transfers.between_s(index, count * num_bytes, near)
        sent = np.where(is_sent, times, 0.0).max(axis=0, initial=0.0)
        num_received = is_sent[near != index].sum(axis=0)
        arrival: Floats = np.maximum(sent, self.free_s(index) + num_received * self._transfers.frame_s[index])
        return arrival

    def arrival_of_whole_s(self, index: int, tensor: str) -> float:
        """When device ``index`` has a tensor without rows."""
        num_bytes = self._costs.position_bytes(tensor)
        ready = self.ready_s.get(tensor)
        if ready is None:
            return float(self._transfers.from_client_s(index, np.array([num_bytes]))[0])
        if np.isfinite(ready[index]) and not self._is_partial(tensor):
            return float(ready[index])
        count = np.full((len(self.devices), 1), num_bytes)
        everyone = np.arange(len(self.devices))
        sent = ready + self._transfers.between_s(index, count, everyone)[:, 0]
        has_it = np.isfinite(ready)
        return float(sent[has_it].max() if self._is_partial(tensor) else sent[has_it].min())

    def _is_partial(self, tensor: str) -> bool:
        op = self._task.graph.producer[tensor]
        return self._costs.is_sum(op) and self._costs.of(op).reads[0].tensor in self.bounds

    def free_s(self, index: int) -> float:
        return float(self._free_s[index])

    def kernel_s(self, index: int, strips: Strips) -> Floats:
        """``[n]``: of n positions."""
        seconds: Floats = strips.seconds[self.devices[index]]
        return seconds


class Layer:
    """One operator whose boundaries are to be chosen."""

    def __init__(self, strips: Strips, division: Division) -> None:
        self._strips = strips
        self._division = division
        self._known: dict[tuple[int, int], Floats] = {}
        self._whole: dict[int, float] = {}

    def divide(self) -> Bounds:
        """Return the boundaries with which the last device is done first, moving as few rows as can be."""
        count, size = len(self._division.devices), self._strips.size
        alone = [float(self.from_start_s(index, 0)[-1]) for index in range(count)]
        index = int(np.argmin(alone))
        best: Bounds = (*[0] * (index + 1), *[size] * (count - index))
        low, high = 0.0, alone[index]
        while high - low > _PRECISION * high:
            middle = (low + high) / 2
            bounds = self._sweep(middle)
            if bounds is None:
                low = middle
            else:
                best, high = bounds, float(np.nanmax(self.finish_s(bounds, idle=np.nan)))
        return self._nearest(best, high)

    def _nearest(self, latest: Bounds, until_s: float) -> Bounds:
        """Of the boundaries with which all are done in time, those nearest to where the rows are.

        Args:
            latest: The boundaries of the sweep: none can lie further to the right.
        """
        wanted = self._division.bounds_now(self._strips)
        if wanted is None:
            return latest
        earliest = [self._strips.size]
        for index in reversed(range(1, len(latest) - 1)):
            earliest.append(self._earliest_start(index, earliest[-1], until_s))
        earliest = [0, *reversed(earliest)]
        bounds = [0]
        for index in range(len(latest) - 1):
            start, reach = bounds[-1], bounds[-1]
            if start < self._strips.size:
                reach += int(np.searchsorted(self.from_start_s(index, start), until_s, side="right"))
            bounds.append(max(min(wanted[index + 1], reach), earliest[index + 1], start))
        return tuple(bounds)

    def _earliest_start(self, index: int, stop: int, until_s: float) -> int:
        """The smallest start from which device ``index`` is done with all up to ``stop`` in time."""
        low, high = 0, stop  # from `high`, with nothing to do, it is
        while low < high:
            middle = (low + high) // 2
            if self.from_start_s(index, middle)[stop - middle - 1] <= until_s:
                high = middle
            else:
                low = middle + 1
        return high

    def _sweep(self, until_s: float) -> Bounds | None:
        """Let each device take as much as it can do in time; None if something is left."""
        bounds = [0]
        for index in range(len(self._division.devices)):
            start = bounds[-1]
            taken = 0
            if start < self._strips.size:
                taken = int(np.searchsorted(self.from_start_s(index, start), until_s, side="right"))
            bounds.append(start + taken)
        return tuple(bounds) if bounds[-1] == self._strips.size else None

    def from_start_s(self, index: int, start: int) -> Floats:
        """When device ``index`` is done with ``[start, stop)``, for each stop after ``start``; it grows."""
        known = self._known.get((index, start))
        if known is None:
            known = self._known[index, start] = self._from_start_s(index, start)
        return known

    def _from_start_s(self, index: int, start: int) -> Floats:
        division, strips = self._division, self._strips
        begin = np.full(strips.size - start, max(division.free_s(index), self._whole_s(index)))
        for reads in strips.reads:
            first = int(reads.first[start])
            begin = np.maximum(begin, division.arrival_s(index, reads, first, reads.stop[start:]))
        done = begin + division.kernel_s(index, strips)[1 : strips.size - start + 1]
        return np.maximum.accumulate(done)

    def _whole_s(self, index: int) -> float:
        """When what every strip reads whole is there."""
        if index not in self._whole:
            times = [self._division.arrival_of_whole_s(index, name) for name in self._strips.whole]
            self._whole[index] = max(times, default=0.0)
        return self._whole[index]

    def finish_s(self, bounds: Bounds, *, idle: float = np.inf) -> Floats:
        """``[device]``: when each is done with its part; ``idle`` for one without."""
        return np.array(
            [
                self.from_start_s(index, start)[stop - start - 1] if stop > start else idle
                for index, (start, stop) in enumerate(pairwise(bounds))
            ]
        )


class _Transfers:
    """Seconds of single transfers to one of some devices, on an idle network."""

    def __init__(self, task: Task, devices: Sequence[int]) -> None:
        wires = Wires(task.cost)
        ranks = [*devices, wires.count - 1]
        frames = wires.frame_s[ranks][:, None] + wires.frame_s[ranks][None, :]
        self.frame_s = wires.frame_s[ranks]
        self._fixed_s = wires.latency_s[np.ix_(ranks, ranks)] + frames
        self._byte_s = wires.byte_s[np.ix_(ranks, ranks)]
        np.fill_diagonal(self._fixed_s, 0.0)

    def between_s(self, index: int, num_bytes: Floats, senders: Ints) -> Floats:
        """Of ``[sender, ...]`` bytes to device ``index``; its own are there."""
        seconds: Floats = (
            self._fixed_s[senders, index][:, None] + num_bytes * self._byte_s[senders, index][:, None]
        )
        return seconds

    def from_client_s(self, index: int, num_bytes: Floats) -> Floats:
        seconds: Floats = self._fixed_s[-1, index] + num_bytes * self._byte_s[-1, index]
        return seconds
