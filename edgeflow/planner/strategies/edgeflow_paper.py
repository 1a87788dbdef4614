"""EdgeFlow (2022): layer by layer through a DAG, each divided as is best given what came before it.

For every layer, in topological order, boundaries ``0 = B_0 <= ... <= B_N = size`` are chosen such that the
last device is done as early as can be::

    F(v, d) = max(d is free, F(u, e) + transfer of what d needs of u and e owns) + kernel of its rows

There is no global barrier: a device begins when its own inputs are there, and devices run ahead.

The paper relaxes a layer's integer programme to a linear one. Here it is solved as it is: ``F`` grows with
the upper boundary and falls with the lower one, so for a given T the devices can be gone through in order,
each taking as many rows as it can finish by T; the least T for which they take all is found by bisection.
That is exact for the order of devices, which is that of ranks, and for the costs in use: those of
`edgeflow.planner.estimates.strips`, real cuts of 1, 2, 4, ... rows and linear in between, and frames'
processor time.
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

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite

import numpy as np

from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Operator
from edgeflow.plan.plan import Plan
from edgeflow.planner.estimates.strips import Strips
from edgeflow.planner.estimates.wires import Wires
from edgeflow.planner.layouts.layout import close, drafts_of_runs, single_draft
from edgeflow.planner.layouts.partition import along
from edgeflow.planner.layouts.rows import feeding_labelled, owned_rows
from edgeflow.planner.search.boundaries import Bounds, Layer
from edgeflow.planner.search.space import linked_devices
from edgeflow.planner.task import Task, finish
from edgeflow.sharding.region import Interval, Region


def edgeflow_paper(task: Task) -> Plan:
    """Return the plan in which each layer is done as early as possible.

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
            if not error.device:  # it is no device that stands in the way
                raise
            devices = tuple(rank for rank in devices if task.cluster.devices[rank].name != error.device)
    assert failure is not None
    raise failure


class Division:
    """The layers of a graph, divided one after another."""

    def __init__(self, task: Task, devices: Sequence[int]) -> None:
        self.devices = tuple(devices)
        #: Tensor -> which device owns which positions: `Bounds` in the order of the devices.
        self.bounds: dict[str, Bounds] = {}
        #: Tensor -> ``[device]``: when each has its part; infinite for one that never has.
        self.ready_s: dict[str, list[float]] = {}
        #: Operators of one stage each.
        self.layers: list[list[Operator]] = []
        self.rest: int = 0
        self._task = task
        self._costs = task.strips
        self._transfers = _Transfers(task, self.devices)
        #: Factor on seconds of kernels; one device alone is not divided.
        self._contention = task.cost.contention if len(self.devices) > 1 else 1.0
        #: When each device is done with all that it was given.
        self.free_s = [0.0] * len(self.devices)
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
        layer = self._layer(strips)
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

    def _layer(self, strips: Strips) -> Layer:
        begin_s = [
            max([free, *(self.arrival_of_whole_s(index, name) for name in strips.whole)])
            for index, free in enumerate(self.free_s)
        ]
        return Layer(
            strips,
            seconds=self._contention * strips.seconds[list(self.devices)],
            begin_s=begin_s,
            wanted=self._bounds_now(strips),
            arrival_s=self.arrival_s,
        )

    def _followed(self, op: Operator, strips: Strips) -> Bounds | None:
        """The boundaries of what an elementwise operator reads, if it may and can have the same."""
        graph = self._task.graph
        found = {self.bounds.get(item.tensor) for item in strips.reads}
        if len(found) != 1 or strips.has_halo:
            return None
        has_weights = any(name in graph.weights and graph.specs[name].ndim > 1 for name in op.inputs)
        return None if has_weights or strips.whole else found.pop()

    def _add_whole(self, op: Operator, *, is_everywhere: bool) -> None:
        """All devices compute what rows depend on; one device, the first to be done, computes the rest."""
        self.layers.append([op])
        strips = self._costs.of(op, is_whole=True)
        layer = self._layer(strips)
        finish = [layer.done_s(index, 0, 1) for index in range(len(self.devices))]
        if not is_everywhere:
            if not self._has_rest:
                self.rest, self._has_rest = finish.index(min(finish)), True
            finish = [end if index == self.rest else inf for index, end in enumerate(finish)]
        self._make(op, None, finish)

    def _make(self, op: Operator, bounds: Bounds | None, finish: list[float]) -> None:
        if bounds is not None:
            self._send(self._costs.of(op), bounds)
        for name in op.used_outputs:
            self.ready_s[name] = finish
            if bounds is not None and name in self._costs.labels:
                self.bounds[name] = bounds
        self.free_s = [end if isfinite(end) else free for end, free in zip(finish, self.free_s, strict=True)]

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
                            self.free_s[sender] += self._transfers.frame_s[sender]

    def _bounds_now(self, strips: Strips) -> Bounds | None:
        """Where the boundaries would lie if rows stayed where they are; None if all are at the client."""
        sources = [item.tensor for item in strips.reads if item.tensor in self.bounds]
        if not sources:
            return None
        heaviest = max(sources, key=lambda name: self._task.graph.specs[name].num_bytes)
        bounds = self.bounds[heaviest]
        scale = strips.size / bounds[-1]
        return tuple(int(bound * scale + 0.5) for bound in bounds)

    # What a strip waits for

    def arrival_s(self, index: int, tensor: str, first: int, stop: int) -> float:
        """When device ``index`` has positions ``first .. stop`` of a tensor with rows."""
        if stop <= first:
            return 0.0
        num_bytes = self._costs.position_bytes(tensor)
        bounds = self.bounds.get(tensor)
        if bounds is None:  # an input
            return self._transfers.from_client_s(index, (stop - first) * num_bytes)
        ready_s = self.ready_s[tensor]
        arrival_s, num_received = 0.0, 0
        # Only those that own something of it take part: most strips need their own rows and a neighbour's.
        # Called by the ten thousand, hence without min() and max().
        owner = bisect_right(bounds, first) - 1
        while owner < len(ready_s) and bounds[owner] < stop:
            begin, end = bounds[owner], bounds[owner + 1]
            count = (stop if stop < end else end) - (first if first > begin else begin)
            if count > 0:
                then_s = ready_s[owner] + self._transfers.between_s(owner, index, count * num_bytes)
                if then_s > arrival_s:
                    arrival_s = then_s
                num_received += owner != index
            owner += 1
        return max(arrival_s, self.free_s[index] + num_received * self._transfers.frame_s[index])

    def arrival_of_whole_s(self, index: int, tensor: str) -> float:
        """When device ``index`` has a tensor without rows."""
        num_bytes = self._costs.position_bytes(tensor)
        ready_s = self.ready_s.get(tensor)
        if ready_s is None:
            return self._transfers.from_client_s(index, num_bytes)
        is_partial = self._is_partial(tensor)
        if isfinite(ready_s[index]) and not is_partial:
            return ready_s[index]
        sent_s = [
            ready + self._transfers.between_s(owner, index, num_bytes)
            for owner, ready in enumerate(ready_s)
            if isfinite(ready)
        ]
        return max(sent_s) if is_partial else min(sent_s)

    def _is_partial(self, tensor: str) -> bool:
        op = self._task.graph.producer[tensor]
        return self._costs.is_sum(op) and self._costs.of(op).reads[0].tensor in self.bounds


class _Transfers:
    """Seconds of single transfers between some devices, on an idle network."""

    def __init__(self, task: Task, devices: Sequence[int]) -> None:
        wires = Wires(task.cost)
        ranks = [*devices, wires.count - 1]
        frames = wires.frame_s[ranks][:, None] + wires.frame_s[ranks][None, :]
        fixed_s = wires.latency_s[np.ix_(ranks, ranks)] + frames
        np.fill_diagonal(fixed_s, 0.0)
        self.frame_s: list[float] = wires.frame_s[ranks].tolist()
        self._fixed_s: list[list[float]] = fixed_s.tolist()
        self._byte_s: list[list[float]] = wires.byte_s[np.ix_(ranks, ranks)].tolist()

    def between_s(self, sender: int, index: int, num_bytes: float) -> float:
        """Return the seconds from one device to another; 0 for a device's own bytes."""
        return self._fixed_s[sender][index] + num_bytes * self._byte_s[sender][index]

    def from_client_s(self, index: int, num_bytes: float) -> float:
        return self.between_s(-1, index, num_bytes)
