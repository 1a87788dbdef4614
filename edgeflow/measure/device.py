"""Measure this machine: operators, copies, frames, memory, and its energy where it counts that."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

from edgeflow.cluster.profile import Conditions, DeviceProfile, MeasuredPower, MessageCost
from edgeflow.cost.energy import EnergyReader, find_energy_reader
from edgeflow.cost.kernels import Sample, fit_families
from edgeflow.cost.profile_file import PeerLink, ProfileFile
from edgeflow.kernels import AUTO, make_executor
from edgeflow.kernels.threads import threads_restored
from edgeflow.measure.cases import device_cases
from edgeflow.measure.frames import CopyCost, measure_copies, measure_frames
from edgeflow.measure.host import conditions, free_memory_bytes
from edgeflow.measure.kernels import clock_for, measure
from edgeflow.measure.peers import measure_peer
from edgeflow.net.security import Access

#: Seconds for operators; the rest takes a few more.
OPERATORS_S: Final = 20.0

_IDLE_S: Final = 1.0

#: Kernels of fewer FLOPs say nothing about a device's sustained rate.
_LARGE_FLOPS: Final = 50_000_000


def profile_device(
    *,
    threads: int = 1,
    executor: str = AUTO,
    budget_s: float = OPERATORS_S,
    peers: Sequence[str] = (),
    transport: str = "auto",
    access: Access | None = None,
    name: str = "",
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> ProfileFile:
    """Measure this machine.

    Args:
        threads: That one operator may use.
        executor: Back end to measure; the one that the worker runs, by default the best that is installed.
        budget_s: For operators; on a slow device a part of them is left out.
        peers: Addresses of running workers, to which the network is measured.
        transport: What carries the frames to them, as those of a plan later; see `edgeflow.deploy`.
        access: What is shown to them.
        name: Of the device; the host's by default.
        on_case: Told how many operators are done, of how many.

    Raises:
        WorkerUnreachableError: If a peer does not answer.
        ClusterError: If a peer refuses.
    """
    message = measure_frames()
    links: tuple[PeerLink, ...] = tuple(
        measure_peer(address, transport=transport, access=access, message=message) for address in peers
    )
    where = conditions(threads)
    memory_bytes = free_memory_bytes()
    reader = find_energy_reader()
    idle_w = _power_w(reader, _IDLE_S)
    start_s, start_j = time.monotonic(), reader.energy_j() if reader else 0.0

    def moved(done: int, total: int) -> None:
        if reader is not None:
            reader.energy_j()  # counters run over, and meters want to be read often
        on_case(done, total)

    with threads_restored():
        backend = make_executor(executor, threads=threads)
        samples = measure(device_cases(), backend, budget_s=budget_s, clock=clock_for(threads), on_case=moved)
    power = None
    if reader is not None:
        busy_w = (reader.energy_j() - start_j) / (time.monotonic() - start_s)
        power = MeasuredPower(idle_w=idle_w, busy_w=busy_w, meter=reader.name)
    profile = condense(
        name or platform.node() or "device",
        samples,
        copy=measure_copies(),
        message=message,
        where=where,
        memory_bytes=memory_bytes,
        power=power,
    )
    return ProfileFile(profile=profile, samples=samples, peers=links)


def condense(
    name: str,
    samples: Sequence[Sample],
    *,
    copy: CopyCost | None = None,
    message: MessageCost | None = None,
    where: Conditions | None = None,
    memory_bytes: int = 0,
    power: MeasuredPower | None = None,
) -> DeviceProfile:
    """Fit a profile to samples.

    The device's rate is the median on convolutions and products that are large enough to run at full
    efficiency; where none of these was measured, the best of the others.
    """
    large = [item.work.flops / item.seconds for item in samples if item.work.flops >= _LARGE_FLOPS]
    any_rates = [item.work.flops / item.seconds for item in samples]
    streams = [item.work.num_bytes / item.seconds for item in samples]
    return DeviceProfile(
        name=name,
        flops_per_second=statistics.median(large) if large else max(any_rates),
        memory_bandwidth_bytes_per_s=1 / copy.stream_s_per_byte if copy else max(streams),
        memory_bytes=memory_bytes,
        families=fit_families(samples),
        copy_s=copy.call_s if copy else 0.0,
        copy_s_per_byte=copy.s_per_byte if copy else 0.0,
        message=message,
        power=power,
        conditions=where or Conditions(),
    )


def _power_w(reader: EnergyReader | None, seconds: float) -> float:
    """Average power while nothing of ours runs."""
    if reader is None:
        return 0.0
    start_s, start_j = time.monotonic(), reader.energy_j()
    for _ in range(10):
        time.sleep(seconds / 10)
        reader.energy_j()
    return (reader.energy_j() - start_j) / (time.monotonic() - start_s)
