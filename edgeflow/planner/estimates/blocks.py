"""Fused blocks: consecutive operators that devices run without communication, recomputing halos.

The graph in topological order is divided into *sections*, between which devices may exchange rows. A block is
a run of sections on a *team*: devices with shares, or one device. Inside a block nothing is exchanged; what a
device lacks is fetched before it. `Blocks` says what a block needs and how long it takes, for all teams at
once, and how long the exchange before it takes, for all pairs of teams.

An estimate: every exchange is a barrier; tensors from further back are taken to be laid out as the block
just before would have them; costs are those of `edgeflow.planner.estimates.strips`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec
import numpy as np

from edgeflow.cost.runs import MeasuredRuns
from edgeflow.graph.ir import Operator
from edgeflow.plan.stage import Piece
from edgeflow.planner.estimates.arrays import Floats, Ints
from edgeflow.planner.estimates.sections import sections_of
from edgeflow.planner.estimates.strips import StripCosts, Strips
from edgeflow.planner.estimates.wires import Wires
from edgeflow.planner.layouts.layout import Draft, names_of, single_draft
from edgeflow.sharding.region import Interval, split_interval


class Team(msgspec.Struct, frozen=True):
    """Devices that share a block, in the order of their strips, and their shares of it."""

    devices: tuple[int, ...]
    shares: tuple[float, ...]


#: Tensor -> ``(starts, stops)``, each ``[team, rank]``: the positions wanted, none if start equals stop.
Wanted = Mapping[str, tuple[Ints, Ints]]


class Block(msgspec.Struct, frozen=True):
    """Sections ``first .. last``, both included.

    Attributes:
        needs: Positions that it reads of tensors computed before it, and of the inputs.
        seconds: ``[team]``: seconds of the slowest device's kernels, run together.
    """

    first: int
    last: int
    needs: Wanted
    seconds: Floats


class Blocks:
    """Every block of a graph, by every team."""

    def __init__(self, costs: StripCosts, teams: Sequence[Team]) -> None:
        analysis, cost = costs.analysis, costs.cost
        self.analysis = analysis
        self.teams = tuple(teams)
        self.costs = costs
        self.sections = sections_of(costs)
        self._labels = costs.labels
        self._wires = Wires(cost)
        self._num_ranks = len(cost.cluster.devices)
        #: Measured runs are used only if they are of this graph's operators, in their order.
        is_known = cost.measured_runs is not None and cost.measured_runs.operators == tuple(
            op.name for op in analysis.graph.operators
        )
        self._runs = cost.measured_runs if is_known else None
        self._start_s = np.array([cost.start_s(rank) for rank in cost.cluster.ranks])
        #: ``[team, 1]``: factor on seconds of kernels.
        self._contention = np.array([[cost.contention if len(team.devices) > 1 else 1.0] for team in teams])
        self._first_operator = [0, *accumulate(len(section) for section in self.sections)]
        self._position = {op.name: i for i, section in enumerate(self.sections) for op in section}
        self._splits: dict[int, tuple[Ints, Ints]] = {}
        self._nearest = self._nearest_member()

    def ending_at(self, last: int) -> Iterator[Block]:
        """Yield the blocks that end with section ``last``, the shortest first."""
        shape = (len(self.teams), self._num_ranks)
        wanted: dict[str, tuple[Ints, Ints]] = {}
        together = _Together(self._runs, self._first_operator[last + 1], np.zeros(shape))
        for first in range(last, -1, -1):
            for op in reversed(self.sections[first]):
                strips = self._strips(op, last)
                starts, stops = self._made(op, strips, wanted, last)
                count = np.maximum(stops - starts, 0)
                together.prepend(strips.seconds[np.arange(self._num_ranks), count])
                self._want(wanted, strips, starts, stops)
            seconds = together.seconds
            if self._start_s.any():
                seconds = seconds + np.where(seconds > 0, self._start_s, 0.0)
            yield Block(first, last, dict(wanted), (self._contention * seconds).max(axis=-1))

    def exchange_s(self, block: Block) -> Floats:
        """Seconds of the exchange before a block, ``[team before, team]``.

        Before the first block everything is at the client, whatever the team before.
        """
        count = len(self.teams)
        frames = np.zeros((count, count, self._wires.count, self._wires.count))
        for tensor, (starts, stops) in block.needs.items():
            frames[..., :-1] += self._frames(tensor, starts, stops, block.first)
        return self._wires.seconds(_between_ranks(frames))

    def answer_s(self) -> Floats:
        """Seconds until the client has all answers after the last block, ``[team]``."""
        count = len(self.teams)
        frames = np.zeros((count, 1, self._wires.count, self._wires.count))
        for tensor in dict.fromkeys(self.analysis.graph.outputs):
            if tensor in self.analysis.graph.producer:
                size = self._size(tensor)
                starts, stops = np.zeros((1, 1), dtype=np.int64), np.full((1, 1), size, dtype=np.int64)
                frames[..., -1:] += self._frames(tensor, starts, stops, len(self.sections), is_client=True)
        answer: Floats = self._wires.seconds(_between_ranks(frames))[:, 0]
        return answer

    def drafts(self, path: Sequence[tuple[int, int, int]]) -> list[Draft]:
        """Return the stages of consecutive blocks ``(first, last, team)``; those of one device are joined."""
        drafts: list[Draft] = []
        joined: list[tuple[list[Operator], int]] = []
        for first, last, team in path:
            operators = [op for section in self.sections[first : last + 1] for op in section]
            is_alone = len(self.teams[team].devices) == 1
            if joined and is_alone and joined[-1][1] == team:
                joined[-1][0].extend(operators)
            else:
                joined.append((operators, team))
        for operators, team in joined:
            drafts.append(self._draft(operators, self.teams[team]))
        return drafts

    def _draft(self, operators: Sequence[Operator], team: Team) -> Draft:
        if len(team.devices) == 1:
            return single_draft(self.analysis, operators, team.devices[0])
        owned: dict[int, dict[str, Piece]] = {device: {} for device in team.devices}
        for op in operators:
            is_last_sum = op is operators[-1] and self.costs.is_sum(op)
            size = self.costs.of(op).size if is_last_sum else 0
            for name in op.used_outputs:
                full, dim = self.analysis.full(name), self._labels.get(name)
                length = size if is_last_sum else full[dim].length if dim is not None else 0
                intervals = split_interval(length, team.shares) if length else [Interval(0, 1)] * len(owned)
                for device, interval in zip(team.devices, intervals, strict=True):
                    if not interval.length:
                        continue
                    if is_last_sum:
                        owned[device][name] = Piece(full, interval)
                    else:
                        owned[device][name] = Piece(full if dim is None else full.replace(dim, interval))
        return Draft("rows", names_of(operators), {d: mine for d, mine in owned.items() if mine})

    # What devices make

    def _strips(self, op: Operator, last: int) -> Strips:
        """Return an operator's strips; a sum in parts only if it ends its block: readers need it whole."""
        return self.costs.of(op, is_whole=op is not self.sections[last][-1])

    def _made(
        self, op: Operator, strips: Strips, wanted: dict[str, tuple[Ints, Ints]], last: int
    ) -> tuple[Ints, Ints]:
        """Return the positions that each device computes: those it owns if they leave, and those it needs."""
        shape = (len(self.teams), self._num_ranks)
        found = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for name in op.used_outputs:
            if self._last_read(name) > last:
                found = _hull(found, self._split(strips.size, is_copied=name not in self._labels))
            if name in wanted:
                found = _hull(found, wanted.pop(name))
        if strips.size > 1 and op.first_output not in self._labels:  # a sum in parts
            found = self._split(strips.size)
        return found

    def _want(self, wanted: dict[str, tuple[Ints, Ints]], strips: Strips, starts: Ints, stops: Ints) -> None:
        is_made = stops > starts
        for item in strips.reads:
            first = item.first[np.where(is_made, starts, 0)]
            stop = np.where(is_made, np.maximum(first, item.stop[np.where(is_made, stops - 1, 0)]), first)
            _add(wanted, item.tensor, (first, stop))
        for tensor in strips.whole:
            _add(wanted, tensor, (np.zeros_like(starts), is_made.astype(np.int64)))

    def _last_read(self, tensor: str) -> int:
        graph = self.analysis.graph
        if tensor in graph.outputs:
            return len(self.sections)
        return max((self._position[reader.name] for reader in graph.consumers.get(tensor, ())), default=-1)

    # Who owns what

    def _split(self, size: int, *, is_copied: bool = False) -> tuple[Ints, Ints]:
        """Return every team's strips, ``[team, rank]``; every member has all of a tensor without strips."""
        key = 0 if is_copied and size == 1 else size
        known = self._splits.get(key)
        if known is None:
            bounds = np.zeros((2, len(self.teams), self._num_ranks), dtype=np.int64)
            for index, team in enumerate(self.teams):
                intervals = split_interval(size, team.shares) if key else [Interval(0, 1)] * len(team.devices)
                for device, interval in zip(team.devices, intervals, strict=True):
                    bounds[:, index, device] = interval
            known = self._splits[key] = (bounds[0], bounds[1])
        return known

    def _size(self, tensor: str) -> int:
        dim = self._labels.get(tensor)
        return 1 if dim is None else self.analysis.full(tensor)[dim].length

    def _nearest_member(self) -> Floats:
        """``[team, from, to]``: 1 for the one member that a copy is fetched from."""
        nearest = np.zeros((len(self.teams), self._wires.count, self._wires.count))
        for index, team in enumerate(self.teams):
            for reader in range(self._wires.count):
                distance = {device: self._wires.byte_s[device, reader] for device in team.devices}
                source = reader if reader in distance else min(distance, key=distance.__getitem__)
                nearest[index, source, reader] = 1.0
        return nearest

    def _frames(
        self, tensor: str, starts: Ints, stops: Ints, first: int, *, is_client: bool = False
    ) -> Floats:
        """Bytes of one tensor, ``[team before, team, from, to]``, when a block that begins at ``first``
        wants ``[team, to]`` of it."""
        columns = slice(-1, None) if is_client else slice(0, -1)
        size = self.costs.position_bytes(tensor)
        count = np.maximum(stops - starts, 0)
        source = self.analysis.graph.producer.get(tensor)
        frames = np.zeros((len(self.teams), *starts.shape[:1], self._wires.count, starts.shape[1]))
        if source is None:
            frames[..., -1, :] = count * size
        elif tensor in self._labels:
            own_starts, own_stops = (bound[:, None, :, None] for bound in self._split(self._size(tensor)))
            overlap = np.minimum(stops[None, :, None], own_stops) - np.maximum(
                starts[None, :, None], own_starts
            )
            frames[..., :-1, :] = np.maximum(overlap, 0) * size
        elif self.costs.is_sum(source) and source is self.sections[self._position[source.name]][-1]:
            # Partial sums, unless the block that computes it also reads it; a team of one owns it whole.
            own_starts, own_stops = self._split(self.costs.of(source).size)
            makes = (own_stops > own_starts)[:, None, :, None]
            frames[..., :-1, :] = makes * (count > 0)[None, :, None] * size
        else:
            frames[...] = self._nearest[:, None, :, columns] * (count > 0)[None, :, None] * size
        return frames


class _Together:
    """Seconds of operators that run together, extended from the last operator backwards.

    Args:
        runs: Measurements of operators together; None: the sum of their seconds alone.
        stop: Position behind the last operator.
        zero: Zeros of shape ``[team, rank]``.
    """

    def __init__(self, runs: MeasuredRuns | None, stop: int, zero: Floats) -> None:
        self._steps = runs.steps(stop) if runs is not None else None
        self._position = self._stop = stop
        #: Seconds from each position on, last position first: of operators alone, and together.
        self._alone = [zero]
        self._together = [zero]

    def prepend(self, alone_s: Floats) -> None:
        self._position -= 1
        self._alone.append(self._alone[-1] + alone_s)
        if self._steps is not None:
            part = self._steps[self._position]
            behind = self._stop - part.stop
            self._together.append(
                part.factor * (self._alone[-1] - self._alone[behind]) + self._together[behind]
            )

    @property
    def seconds(self) -> Floats:
        return self._alone[-1] if self._steps is None else self._together[-1]


def _between_ranks(frames: Floats) -> Floats:
    """Zero what a rank would send to itself."""
    ranks = np.arange(frames.shape[-1])
    frames[..., ranks, ranks] = 0.0
    return frames


def _add(wanted: dict[str, tuple[Ints, Ints]], tensor: str, more: tuple[Ints, Ints]) -> None:
    known = wanted.get(tensor)
    wanted[tensor] = more if known is None else _hull(known, more)


def _hull(a: tuple[Ints, Ints], b: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """The smallest intervals that hold both; empty ones add nothing."""
    a_is_empty, b_is_empty = a[1] <= a[0], b[1] <= b[0]
    starts = np.where(a_is_empty, b[0], np.where(b_is_empty, a[0], np.minimum(a[0], b[0])))
    stops = np.where(a_is_empty, b[1], np.where(b_is_empty, a[1], np.maximum(a[1], b[1])))
    return starts, stops
