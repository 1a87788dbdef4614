"""From a plan to one program a device: the one rule of communication, written out.

*Device d receives from device e exactly owned(e) ∩ need(d); partial results are summed by the receiver.*
Halo exchange, scatter, gather, all-gather, all-reduce, re-partition, idle devices and hand-over between
pipelined stages all come out of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.encoding import ENCODED_DTYPE, MAX_BYTES_PER_S, MIN_ELEMENTS
from edgeflow.plan.machine import Held, Machine, Slot, finish
from edgeflow.plan.program import (
    CLIENT,
    TOKEN,
    TOKEN_DTYPE,
    Assemble,
    Claim,
    Compute,
    Dispense,
    Part,
    Program,
    Receive,
    Send,
    token_receive,
    token_send,
)
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.sharding.region import Region, without

_OUTPUTS = "outputs"
#: The client's section in front of all stages.
_INPUTS: Slot = (-1, 0)


class _Owner(msgspec.Struct, gc=False):
    """A rank's entry in the latest ownership of a tensor.

    Attributes:
        claimed: Where a task makes the piece: what each rank holds that may have claimed it.
    """

    rank: int
    held: Held
    piece: Piece
    claimed: Mapping[int, Held] = {}


class _Sources(NamedTuple):
    """What covers a region on a rank: parts of what it holds, of what others own, and what nobody has.

    Attributes:
        here, there: By the index among those that it holds, and among the owners.
    """

    here: list[tuple[int, Region]]
    there: list[tuple[int, list[Region]]]
    missing: tuple[Region, ...]


def lower(
    graph: ModelGraph, cluster: Cluster, stages: tuple[Stage, ...], *, activations: str = ""
) -> Mapping[int, Program]:
    """Return the program of every rank that takes part, and the client's under `CLIENT`.

    Args:
        activations: What they are encoded as on slow links, one of `edgeflow.plan.encoding.ENCODINGS`.

    Raises:
        InvalidPlanError: If a stage needs a region that nobody owns at that point, or a shard is wrong.
    """
    return _Lowering(graph, cluster, activations).run(stages)


class _Lowering:
    def __init__(self, graph: ModelGraph, cluster: Cluster, activations: str) -> None:
        self._graph = graph
        self._cluster = cluster
        self._activations = activations
        self._machines: dict[int, Machine] = {}
        self._owners: dict[str, list[_Owner]] = {}
        self._sources: dict[object, _Sources] = {}
        self._num_tags = 0
        #: While a task is written: where the client's sends for it go.
        self._dispensed: Slot | None = None

    def run(self, stages: tuple[Stage, ...]) -> Mapping[int, Program]:
        client = self._machine(CLIENT)
        inputs = []
        for name in self._graph.inputs:
            region = Region.full(self._graph.specs[name].shape)
            held = self._keep(client, name, region, section=_INPUTS)
            self._owners[name] = [_Owner(CLIENT, held, Piece(region))]
            inputs.append((name, held.buffer))
        for index, stage in enumerate(stages):
            self._stage(index, stage)
        # The worker on the client's host begins as soon as it has its part, and then they share processors.
        client.sections[_INPUTS].sends.sort(key=lambda send: send.peer == self._cluster.source_rank)
        outputs = []
        for name in dict.fromkeys(self._graph.outputs):
            region = Region.full(self._graph.specs[name].shape)
            # An answer is handed over as exactly the tensor: a buffer that holds just that region.
            outputs.append((name, self._acquire(client, name, region, (len(stages), 0), _OUTPUTS).buffer))
        return {
            rank: finish(
                machine,
                inputs=tuple(inputs) if rank == CLIENT else (),
                outputs=tuple(outputs) if rank == CLIENT else (),
            )
            for rank, machine in sorted(self._machines.items())
        }

    def _machine(self, rank: int) -> Machine:
        if rank != CLIENT and rank not in self._cluster.ranks:
            raise InvalidPlanError(f"rank {rank} is not in a cluster of {len(self._cluster.devices)} devices")
        return self._machines.setdefault(rank, Machine(rank))

    def _keep(self, machine: Machine, tensor: str, region: Region, *, section: Slot) -> Held:
        buffer = machine.new_buffer(tensor, region, self._graph.specs[tensor].dtype)
        held = Held(buffer, region, section)
        machine.held[tensor].append(held)
        return held

    def _stage(self, index: int, stage: Stage) -> None:
        if stage.claimants:
            self._claimed(index, stage)
            return
        made: dict[str, list[_Owner]] = {}
        for position, shard in enumerate(stage.shards):
            machine = self._machine(shard.device)
            slot = (index, position)
            if stage.operators:
                owned = self._compute(slot, stage, shard, machine)
            else:
                owned = [
                    (name, piece, self._acquire(machine, name, piece.region, slot, stage.name))
                    for name, piece in shard.outputs
                ]
            for name, piece, held in owned:
                made.setdefault(name, []).append(_Owner(shard.device, held, piece))
        for name, owners in made.items():
            # Stages may each make a part of a tensor; handing it over leaves it to its new owners alone.
            before = self._owners.get(name, []) if stage.operators else []
            self._owners[name] = [*before, *owners]
            if not stage.operators:
                self._forget(name, owners)

    def _claimed(self, index: int, stage: Stage) -> None:
        """Every claimant gets the instructions of every task, and runs those of the tasks that it takes."""
        tags = {rank: tuple(self._new_tag() for _ in stage.shards) for rank in stage.claimants}
        ends = {rank: self._new_tag() for rank in stage.claimants}
        made: list[dict[int, list[tuple[str, Piece, Held]]]] = [{} for _ in stage.shards]
        for place, rank in enumerate(stage.claimants):
            machine = self._machine(rank)
            machine.has_claims = True
            held = machine.held
            for task, shard in enumerate(stage.shards):
                # What one task holds is not there for another: nobody knows which of them run here.
                machine.held = defaultdict(list)
                self._dispensed = (index, 1 + task * len(stage.claimants) + place)
                made[task][rank] = self._compute((index, 1 + task), stage, shard, machine)
            machine.held, self._dispensed = held, None
            lengths = (0,) * len(stage.shards)  # until they are known
            claim = Claim(stage=stage.name, peer=CLIENT, tags=tags[rank], lengths=lengths)
            machine.sections[index, 0].before.append(claim)
            end = token_receive(CLIENT, ends[rank], stage.name)
            end = msgspec.structs.replace(end, buffer=machine.new_buffer(end.tensor, TOKEN, TOKEN_DTYPE))
            machine.sections[index, 1 + len(stage.shards)].before.append(end)
        self._dispense(index, stage, tags, ends)
        for by_rank in made:
            first = min(by_rank)
            for position, (name, piece, held_first) in enumerate(by_rank[first]):
                claimed = {rank: items[position][2] for rank, items in by_rank.items()}
                self._owners.setdefault(name, []).append(_Owner(first, held_first, piece, claimed))

    def _dispense(
        self, index: int, stage: Stage, tags: Mapping[int, tuple[int, ...]], ends: Mapping[int, int]
    ) -> None:
        client = self._machine(CLIENT)
        client.has_claims = True
        ranks = stage.claimants
        lengths = (0,) * (len(ranks) * (len(stage.shards) + 1))
        client.sections[index, 0].before.append(
            Dispense(
                stage=stage.name, claimants=ranks, tags=tuple(tags[rank] for rank in ranks), lengths=lengths
            )
        )
        for place, rank in enumerate(ranks):
            slot = (index, 1 + len(stage.shards) * len(ranks) + place)
            client.sections[slot].sends.append(token_send(rank, ends[rank], stage.name))

    def _new_tag(self) -> int:
        self._num_tags += 1
        return self._num_tags - 1

    def _forget(self, tensor: str, owners: list[_Owner]) -> None:
        """What was handed over is held by its new owners alone: the others get it from them again."""
        for machine in self._machines.values():
            machine.held[tensor] = [owner.held for owner in owners if owner.rank == machine.rank]

    def _compute(
        self, slot: Slot, stage: Stage, shard: Shard, machine: Machine
    ) -> list[tuple[str, Piece, Held]]:
        work: StageKernels = stage_kernels(self._graph, stage, shard)
        inputs = tuple(
            (name, self._acquire(machine, name, region, slot, stage.name).buffer)
            for name, region in work.needs
        )
        owned = []
        outputs = []
        for (name, piece), (_, region) in zip(shard.outputs, work.outputs, strict=True):
            if piece.contraction is None:
                held = self._keep(machine, name, region, section=slot)
            else:  # a partial sum is not the tensor: nobody may read it as such
                dtype = self._graph.specs[name].dtype
                held = Held(machine.new_buffer(name, region, dtype), region, slot)
            owned.append((name, Piece(region, piece.contraction), held))
            outputs.append((name, held.buffer))
        machine.sections[slot].before.append(
            Compute(stage=stage.name, kernels=work.kernels, inputs=inputs, outputs=tuple(outputs))
        )
        machine.inner_bytes[slot] = work.peak_bytes
        machine.weights.update(dict.fromkeys(work.weights))
        return owned

    def _acquire(self, machine: Machine, tensor: str, region: Region, section: Slot, stage: str) -> Held:
        """Return a buffer on ``machine`` that holds at least ``region``; fetch what is missing."""
        for held in machine.held[tensor]:
            exact_enough = held.region == region if stage == _OUTPUTS else held.region.contains(region)
            if exact_enough:
                return held
        owners = self._owners.get(tensor)
        if owners is None:
            raise InvalidPlanError(f"stage {stage!r} needs {tensor!r} before any stage has made it")
        is_sum = any(owner.piece.contraction is not None for owner in owners)
        if is_sum:
            parts = self._partial_parts(machine, tensor, region, owners, section, stage)
        else:
            parts = self._cover(machine, tensor, region, owners, section, stage)
            if len(parts) == 1 and machine.buffers[parts[0].buffer].region == region:
                return next(held for held in machine.held[tensor] if held.buffer == parts[0].buffer)
        held = self._keep(machine, tensor, region, section=section)
        machine.sections[section].before.append(
            Assemble(
                buffer=held.buffer,
                tensor=tensor,
                region=region,
                dtype=self._graph.specs[tensor].dtype,
                parts=tuple(parts),
                is_sum=is_sum,
                stage=stage,
            )
        )
        return held

    def _partial_parts(
        self, machine: Machine, tensor: str, region: Region, owners: list[_Owner], section: Slot, stage: str
    ) -> list[Part]:
        """Every owner's share of a sum, in rank order: all devices add in one order and agree to the bit."""
        parts = []
        for owner in sorted(owners, key=lambda item: item.rank):
            overlap = region.intersect(owner.held.region)
            if overlap != region:
                raise InvalidPlanError(
                    f"stage {stage!r} needs {region} of {tensor!r}; rank {owner.rank} has partial sums of "
                    f"{owner.held.region} only"
                )
            buffer = owner.held.buffer
            if owner.rank != machine.rank:
                buffer = self._transfer(owner, machine, tensor, overlap, section, stage)
            parts.append(Part(buffer, overlap))
        return parts

    def _cover(
        self, machine: Machine, tensor: str, region: Region, owners: list[_Owner], section: Slot, stage: str
    ) -> list[Part]:
        """Parts that cover ``region``: what is here already, then the rest from the nearest owners."""
        here = list(machine.held[tensor])
        # Blocks of a model are alike, and so is who has what of them.
        question = (
            machine.rank,
            region,
            self._graph.specs[tensor].num_bytes,
            tuple([held.region for held in here]),
            tuple([(owner.rank, owner.held.region, bool(owner.claimed)) for owner in owners]),
        )
        found = self._sources.get(question)
        if found is None:
            found = self._sources[question] = self._find_sources(*question)
        if found.missing:
            missing = ", ".join(str(box) for box in found.missing)
            raise InvalidPlanError(f"stage {stage!r} needs {missing} of {tensor!r}, which no device owns")
        parts = [Part(here[index].buffer, overlap) for index, overlap in found.here]
        for index, overlaps in found.there:
            owner = owners[index]
            if owner.claimed:
                held = self._collect(owner, machine, tensor, section, stage)
                parts += [Part(held.buffer, overlap) for overlap in overlaps]
                continue
            for overlap in overlaps:
                buffer = self._transfer(owner, machine, tensor, overlap, section, stage)
                machine.held[tensor].append(Held(buffer, overlap, section))
                parts.append(Part(buffer, overlap))
        return parts

    def _find_sources(
        self,
        rank: int,
        region: Region,
        num_bytes: int,
        here: tuple[Region, ...],
        owners: tuple[tuple[int, Region, bool], ...],
    ) -> _Sources:
        """Who covers ``region`` on ``rank``, that has ``here`` of a tensor of so many bytes: the nearest.

        Args:
            owners: The rank of each, what it owns, and whether that was claimed as a task.
        """
        from_here, from_there = [], []
        rest: tuple[Region, ...] = (region,)
        for index, held in enumerate(here):
            overlaps = _overlaps(rest, held)
            if overlaps:
                from_here += [(index, overlap) for overlap in overlaps]
                rest = without(rest, held)
        asked = [
            index
            for index, (owner, owned, is_claimed) in enumerate(owners)
            if (owner != rank or is_claimed) and any(box.overlap(owned) for box in rest)
        ]

        def distance(index: int) -> tuple[float, int]:
            owner = owners[index][0]
            # Among equals the ones after this rank, so that load spreads.
            after = (owner - rank) % (len(self._cluster.devices) + 1)
            return self._cluster.distance_s(owner, rank, num_bytes), after

        for index in sorted(asked, key=distance):
            owned = owners[index][1]
            overlaps = _overlaps(rest, owned)
            if overlaps:
                from_there.append((index, overlaps))
                rest = without(rest, owned)
        return _Sources(from_here, from_there, rest)

    def _transfer(
        self, owner: _Owner, machine: Machine, tensor: str, region: Region, section: Slot, stage: str
    ) -> int:
        """Send ``region`` as soon as the owner has it; receive it where it is needed. Returns the buffer."""
        held = Held(machine.new_buffer(tensor, region, self._graph.specs[tensor].dtype), region, section)
        self._link({owner.rank: owner.held}, machine, held, tensor, stage)
        return held.buffer

    def _collect(self, owner: _Owner, machine: Machine, tensor: str, section: Slot, stage: str) -> Held:
        """Take over what a task has made, from whichever rank claimed it; all of it."""
        region, own = owner.held.region, owner.claimed.get(machine.rank)
        dtype = self._graph.specs[tensor].dtype
        buffer = machine.new_buffer(tensor, region, dtype) if own is None else own.buffer
        found = Held(buffer, region, section)
        others = {rank: held for rank, held in owner.claimed.items() if rank != machine.rank}
        if others:
            self._link(others, machine, found, tensor, stage)
        machine.held[tensor].append(found)
        return found

    def _link(
        self, senders: Mapping[int, Held], machine: Machine, target: Held, tensor: str, stage: str
    ) -> None:
        """One frame: whoever of ``senders`` has made it sends it, ``machine`` keeps it in ``target``."""
        dtype = self._graph.specs[tensor].dtype
        tag = self._new_tag()
        encoding = self._encoding(tuple(senders), machine.rank, target.region, dtype)
        for rank, held in senders.items():
            made_in = held.section if self._dispensed is None else self._dispensed
            self._machines[rank].sections[made_in].sends.append(
                Send(
                    buffer=held.buffer,
                    tensor=tensor,
                    region=target.region,
                    dtype=dtype,
                    peer=machine.rank,
                    tag=tag,
                    stage=stage,
                    encoding=encoding,
                )
            )
        first, *others = senders
        machine.sections[target.section].before.append(
            Receive(
                buffer=target.buffer,
                tensor=tensor,
                region=target.region,
                dtype=dtype,
                peer=first,
                others=tuple(others),
                tag=tag,
                stage=stage,
                encoding=encoding,
            )
        )

    def _encoding(self, senders: tuple[int, ...], receiver: int, region: Region, dtype: str) -> str:
        """What a frame is encoded as: nothing, unless devices exchange many floats over a slow link."""
        if not self._activations or dtype != ENCODED_DTYPE or region.num_elements < MIN_ELEMENTS:
            return ""
        if CLIENT in (*senders, receiver):
            return ""
        slowest = min(self._cluster.link(rank, receiver).bandwidth_bytes_per_s for rank in senders)
        return self._activations if slowest <= MAX_BYTES_PER_S else ""


def _overlaps(boxes: tuple[Region, ...], region: Region) -> list[Region]:
    """What ``region`` holds of each of these boxes, where it holds something."""
    return [box.intersect(region) for box in boxes if box.overlap(region)]
