"""From stages to one program per rank: the one rule of communication, written out.

*Device d receives from device e exactly owned(e) ∩ need(d); partial results are summed by the receiver.*
Halo exchange, scatter, gather, all-gather, all-reduce, re-partition, idle devices and hand-over between
pipelined stages all follow from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import InvalidPlanError
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.claims import END_BUFFER, Slot, Tasks
from edgeflow.plan.encoding import ENCODED_DTYPE, MAX_BYTES_PER_S, MIN_ELEMENTS
from edgeflow.plan.machine import Held, Machine, finish
from edgeflow.plan.program import CLIENT, Assemble, Compute, Part, Program, Receive, Send
from edgeflow.plan.sources import Owner, Sources, find_sources
from edgeflow.plan.stage import Piece, Shard, Stage
from edgeflow.plan.stage_kernels import StageKernels, stage_kernels
from edgeflow.sharding.region import Region

#: In place of a stage's name: the answer that the client hands over.
_OUTPUTS = "outputs"
#: The client's section in front of all stages.
_INPUTS: Slot = (-1, 0)


class _Owned(msgspec.Struct, gc=False):
    """One piece of a tensor, and the rank that owns it.

    Attributes:
        claimed: Of a task's piece: claimant -> the buffer that holds it if that rank ran the task.
    """

    rank: int
    held: Held
    piece: Piece
    claimed: Mapping[int, Held] = {}


def lower(
    graph: ModelGraph, cluster: Cluster, stages: tuple[Stage, ...], *, activations: str = ""
) -> Mapping[int, Program]:
    """Return the program of every rank that takes part, and the client's under `CLIENT`.

    Args:
        activations: Their encoding on slow links, one of `edgeflow.plan.encoding.ENCODINGS`, or empty.

    Raises:
        InvalidPlanError: If a stage needs a region that nobody owns at that point, or a shard is wrong.
    """
    return _Lowering(graph, cluster, activations).run(stages)


class _Lowering:
    """The programs under construction, and the owners of every tensor so far."""

    def __init__(self, graph: ModelGraph, cluster: Cluster, activations: str) -> None:
        self._graph = graph
        self._cluster = cluster
        self._activations = activations
        self._machines: dict[int, Machine] = {}
        #: Tensor -> its pieces, as the latest stages left them.
        self._owned: dict[str, list[_Owned]] = {}
        self._sources: dict[object, Sources] = {}
        self._num_tags = 0
        #: While a task is written: the client's section that sends its inputs.
        self._dispensed: Slot | None = None

    def run(self, stages: tuple[Stage, ...]) -> Mapping[int, Program]:
        client = self._machine(CLIENT)
        inputs = []
        for name in self._graph.inputs:
            region = Region.full(self._graph.specs[name].shape)
            held = self._keep(client, name, region, section=_INPUTS)
            self._owned[name] = [_Owned(CLIENT, held, Piece(region))]
            inputs.append((name, held.buffer))
        for index, stage in enumerate(stages):
            self._stage(index, stage)
        # The worker on the client's host gets its part last: once it computes, both share the processors.
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
        made: dict[str, list[_Owned]] = {}  # by this stage
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
                made.setdefault(name, []).append(_Owned(shard.device, held, piece))
        for name, owners in made.items():
            # Stages of operators may each add a part of a tensor; a hand-over replaces all owners.
            before = self._owned.get(name, []) if stage.operators else []
            self._owned[name] = [*before, *owners]
            if not stage.operators:
                self._forget(name, owners)

    def _claimed(self, index: int, stage: Stage) -> None:
        """Give every claimant the instructions of every task; it runs those of the tasks that it gets."""
        tasks = Tasks.of(index, stage, self._new_tag)
        made: list[dict[int, list[tuple[str, Piece, Held]]]] = [{} for _ in stage.shards]
        for rank in stage.claimants:
            machine = self._machine(rank)
            held = machine.held
            for task, shard in enumerate(stage.shards):
                # A task cannot read the buffers of another one, which may run on another rank.
                machine.held = defaultdict(list)
                self._dispensed = tasks.send_slot(task, rank)
                made[task][rank] = self._compute(tasks.task_slot(task), stage, shard, machine)
            machine.held, self._dispensed = held, None
            machine.sections[tasks.head_slot].before.append(tasks.claim(rank))
            end = tasks.receive_end(rank, machine.add(END_BUFFER))
            machine.sections[tasks.end_slot].before.append(end)
        client = self._machine(CLIENT)
        client.sections[tasks.head_slot].before.append(tasks.dispense())
        for rank in stage.claimants:
            client.sections[tasks.send_end_slot(rank)].sends.append(tasks.send_end(rank))
        for by_rank in made:
            first = min(by_rank)
            for position, (name, piece, held_first) in enumerate(by_rank[first]):
                claimed = {rank: items[position][2] for rank, items in by_rank.items()}
                self._owned.setdefault(name, []).append(_Owned(first, held_first, piece, claimed))

    def _new_tag(self) -> int:
        self._num_tags += 1
        return self._num_tags - 1

    def _forget(self, tensor: str, owners: list[_Owned]) -> None:
        """Let the new owners alone hold a tensor that was handed over; other ranks get it from them again."""
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
            else:  # a partial sum is not the tensor and must not be read as such
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
        """Return a buffer on ``machine`` that holds at least ``region``; fetch the parts that it lacks."""
        for held in machine.held[tensor]:
            exact_enough = held.region == region if stage == _OUTPUTS else held.region.contains(region)
            if exact_enough:
                return held
        owners = self._owned.get(tensor)
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
        self, machine: Machine, tensor: str, region: Region, owners: list[_Owned], section: Slot, stage: str
    ) -> list[Part]:
        """Return every owner's share of a sum, in rank order: all devices get the same bits."""
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
        self, machine: Machine, tensor: str, region: Region, owners: list[_Owned], section: Slot, stage: str
    ) -> list[Part]:
        """Return parts that cover ``region``: those on this rank, then the rest from the nearest owners."""
        here = list(machine.held[tensor])
        # The blocks of a model repeat, and so do these questions.
        question = (
            machine.rank,
            region,
            self._graph.specs[tensor].num_bytes,
            tuple([held.region for held in here]),
            tuple([Owner(owner.rank, owner.held.region, bool(owner.claimed)) for owner in owners]),
        )
        found = self._sources.get(question)
        if found is None:
            found = self._sources[question] = find_sources(self._cluster, *question)
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

    def _transfer(
        self, owner: _Owned, machine: Machine, tensor: str, region: Region, section: Slot, stage: str
    ) -> int:
        """Send ``region`` as soon as the owner has it, receive it where it is needed; return the buffer."""
        held = Held(machine.new_buffer(tensor, region, self._graph.specs[tensor].dtype), region, section)
        self._link({owner.rank: owner.held}, machine, held, tensor, stage)
        return held.buffer

    def _collect(self, owner: _Owned, machine: Machine, tensor: str, section: Slot, stage: str) -> Held:
        """Receive the whole result of a task from the rank that claimed it, unless that is this rank."""
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
        """Write one frame: the one of ``senders`` that has made it sends it; ``machine`` receives it."""
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
        """Return a frame's encoding: empty, unless devices exchange many floats over a slow link."""
        if not self._activations or dtype != ENCODED_DTYPE or region.num_elements < MIN_ELEMENTS:
            return ""
        if CLIENT in (*senders, receiver):
            return ""
        slowest = min(self._cluster.link(rank, receiver).bandwidth_bytes_per_s for rank in senders)
        return self._activations if slowest <= MAX_BYTES_PER_S else ""
