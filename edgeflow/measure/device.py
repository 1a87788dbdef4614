"""Measure this machine: operators, copies, frames, memory, and energy where the machine has a meter."""

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
from edgeflow.kernels import AUTO, Executor, make_executor
from edgeflow.kernels.threads import threads_restored
from edgeflow.measure.cases import DTYPES, device_cases, product_cases
from edgeflow.measure.frames import CopyCost, measure_copies, measure_frames
from edgeflow.measure.host import conditions, free_memory_bytes
from edgeflow.measure.kernels import Clock, clock_for, measure
from edgeflow.measure.peers import measure_peer
from edgeflow.net.security import Access

#: Seconds for fp32 operators; everything else takes some more.
OPERATORS_S: Final = 20.0

_IDLE_S: Final = 1.0

#: Share of the seconds of fp32 that each further dtype gets.
_DTYPE_SHARE: Final = 0.25

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
        threads: Threads per operator.
        executor: Back end to measure, as on the worker; by default the best that is installed.
        budget_s: Seconds for fp32 operators; a slow device skips some of them. Each further dtype that the
            back end runs gets a quarter of it in addition.
        peers: Addresses of running workers, to which the network is measured.
        transport: Transport of the frames to them, as later in a plan; see `edgeflow.deploy`.
        access: Certificates and join token to show to them.
        name: Name of the device; by default the host's.
        on_case: Called with the number of operators done, and their total.

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
            reader.energy_j()  # counters overflow, and power meters must be sampled often
        on_case(done, total)

    with threads_restored():
        backend = make_executor(executor, threads=threads)
        samples = _measure_dtypes(backend, budget_s, clock_for(threads), moved)
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


def _measure_dtypes(
    executor: Executor, budget_s: float, clock: Clock, on_case: Callable[[int, int], None]
) -> tuple[Sample, ...]:
    """Measure all families in fp32, and products in every other dtype in which the back end runs them."""
    groups = [(device_cases(), budget_s)]
    groups += [(product_cases(dtype, executor), _DTYPE_SHARE * budget_s) for dtype in DTYPES]
    total, before = sum(len(cases) for cases, _ in groups), 0
    samples: list[Sample] = []
    for cases, share_s in groups:
        if cases:
            samples += measure(
                cases,
                executor,
                budget_s=share_s,
                clock=clock,
                on_case=lambda done, _, before=before: on_case(before + done, total),  # type: ignore[misc]
            )
            before += len(cases)
    return tuple(samples)


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

    The device's rate is the median over fp32 convolutions and products that are large enough to run at full
    efficiency; where none of these was measured, the best of the other samples. A dtype's rate is the same
    median in that dtype; where none was measured, it has no rate.
    """
    large: dict[str, list[float]] = {}
    for item in samples:
        if item.work.flops >= _LARGE_FLOPS:
            large.setdefault(item.work.dtype, []).append(item.work.flops / item.seconds)
    single = [item for item in samples if item.work.dtype == "float32"] or samples
    rates = {dtype: statistics.median(large[dtype]) for dtype in sorted(large)}
    any_rates = [item.work.flops / item.seconds for item in single]
    streams = [item.work.num_bytes / item.seconds for item in samples]
    return DeviceProfile(
        name=name,
        flops_per_second=rates.get("float32") or max(any_rates),
        rates=tuple(item for item in rates.items() if item[0] != "float32"),
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
    """Return the average power while this process is idle."""
    if reader is None:
        return 0.0
    start_s, start_j = time.monotonic(), reader.energy_j()
    for _ in range(10):
        time.sleep(seconds / 10)
        reader.energy_j()
    return (reader.energy_j() - start_j) / (time.monotonic() - start_s)
