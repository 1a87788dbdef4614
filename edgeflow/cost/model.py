"""HOW LONG: seconds of kernels, copies and frames on the devices of a cluster.

Compute, from the weakest knowledge to the strongest:

1. a roofline of the device's rates: the time to start the calls, plus the longer of arithmetic (at the rate
   of the dtype that the kernel computes in) and traffic;
2. the device's profile, where it has one: measured curves by family of operators (`edgeflow.cost.kernels`),
   perhaps with a learned correction;
3. operators of this very graph, measured whole; a slice takes its share of that, as the profile has it;
4. runs of such operators, measured together: beside its neighbours an operator takes a part of what it takes
   alone (`edgeflow.cost.runs`), and what it costs to start them is paid once;
5. a correction by device and family, from what requests took (the latency history).

Frames cost processor time on both sides, by the frame and by the byte, besides what the network takes
(`edgeflow.cluster.network`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import Final

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.cluster.profile import DeviceProfile, MessageCost
from edgeflow.cost.kernels import profile_s
from edgeflow.cost.runs import MeasuredRuns
from edgeflow.cost.work import Work, compute_dtype, dtypes_of, work_of
from edgeflow.errors import ConfigError
from edgeflow.graph.ir import NUMPY_DTYPES
from edgeflow.plan.encoding import ENCODING_PASSES
from edgeflow.plan.program import TOKEN, Assemble, Compute, Instruction, Kernel, Program, Receive, Send
from edgeflow.sharding.region import Region

#: Processor time that a worker spends to send or receive one frame, at the reference speed. Measured for
#: Python gRPC on one desktop core.
MESSAGE_OVERHEAD_S: Final = 0.25e-3

#: Family name in `CostModel.corrections` that stands for all that are not named.
ANY_FAMILY: Final = "*"


class Measurement(msgspec.Struct, frozen=True):
    """One whole operator, as measured on a reference device.

    Attributes:
        seconds: Its duration alone, less the start of a `Compute` (`CostModel.measured_start_s`).
        work: Its work; None: slices are assumed to cost by FLOPs and bytes alone.
        elements: Elements written; used to scale slices of operators without FLOPs and bytes (a view, which
            a back end may have to copy). 0: unknown.
        dtypes: `Kernel.dtypes` of the measured kernel; kernels of other dtypes do not use it, for
            example those of the same model captured in another precision.
    """

    seconds: float
    flops: int
    num_bytes: int
    work: Work | None = None
    elements: int = 0
    dtypes: tuple[tuple[str, str], ...] = ()

    def holds_for(self, kernel: Kernel) -> bool:
        """Whether a kernel of the operator has the dtypes that were measured."""
        if kernel.dtypes == self.dtypes:
            return True
        # A slice may read fewer tensors than the whole.
        measured = dict(self.dtypes)
        return all(measured.get(name, "float32") == dtype for name, dtype in dtypes_of(kernel).items())


class CostModel(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Costs of kernels, copies and frames on one cluster.

    Attributes:
        cluster: The devices and links.
        measured: Operator name -> its measurement; operators may be missing.
        measured_runs: Measured runs of the same operators, if there are any.
        measured_start_s: Seconds to start a `Compute` on the measured device, whatever its kernels.
        measured_flops_per_second: `Device.flops_per_second` of the device on which ``measured`` was taken;
            other devices scale from it.
        measured_rates: `Device.rates` of that device.
        reference: Profile of that device; used for devices without a profile, scaled like ``measured``.
        message_overhead_s: Processor seconds per frame on each side, for devices whose profile has none.
        message_s_per_byte: Processor seconds per byte, in addition.
        corrections: Device name -> family -> factor on its kernels' seconds; `ANY_FAMILY` for the rest.
        contention: Factor on kernels' seconds in stages that several devices compute at once: 1 where each
            device is its own machine, more where devices share one (`edgeflow.measure_contention`). Under
            load it applies to all stages (`edgeflow.cost.timeline.Prediction.busy_s`).
    """

    cluster: Cluster
    measured: Mapping[str, Measurement] = {}
    measured_runs: MeasuredRuns | None = None
    measured_start_s: float = 0.0
    measured_flops_per_second: float = 0.0
    measured_rates: tuple[tuple[str, float], ...] = ()
    reference: DeviceProfile | None = None
    message_overhead_s: float = MESSAGE_OVERHEAD_S
    message_s_per_byte: float = 0.0
    corrections: Mapping[str, Mapping[str, float]] = {}
    contention: float = 1.0

    def __post_init__(self) -> None:
        if (self.measured or self.reference) and self.measured_flops_per_second <= 0:
            raise ConfigError(
                "measured operators need the rate of the device that they were measured on, "
                f"got {self.measured_flops_per_second:g} FLOP/s"
            )
        if not 1 <= self.contention < float("inf"):
            raise ConfigError(f"contention must be at least 1 and finite, got {self.contention:g}")
        for name, factors in self.corrections.items():
            self.cluster.rank_of(name)
            for family, factor in factors.items():
                if not 0 < factor < float("inf"):
                    raise ConfigError(
                        f"correction of {family!r} on device {name!r} must be positive and finite, "
                        f"got {factor:g}"
                    )

    def kernel_s(self, rank: int, kernel: Kernel, *, factor: float = 1.0) -> float:
        """Return the seconds of one kernel on a device.

        Args:
            factor: From `factors`, for a kernel that runs together with others.
        """
        device = self.cluster.devices[rank]
        known = self.measured.get(kernel.operator)
        if known is None and device.profile is None and self.reference is None and not self.corrections:
            return _roofline_s(device, kernel)  # the common case, and the search asks it very often
        work = work_of(kernel)
        return self._correction(device, work.family) * self._kernel_s(device, kernel, work, known, factor)

    def kernels_s(
        self, rank: int, kernels: Sequence[Kernel], *, among: Sequence[str] | None = None
    ) -> list[float]:
        """Return the seconds of each of these kernels when they run together.

        Args:
            among: All operators that run together, if there are more than those of the kernels.
        """
        if self.measured_runs is None:
            return [self.kernel_s(rank, kernel) for kernel in kernels]
        factors = self.factors([kernel.operator for kernel in kernels] if among is None else among)
        return [self.kernel_s(rank, kernel, factor=factors.get(kernel.operator, 1.0)) for kernel in kernels]

    def compute_s(self, rank: int, kernels: Sequence[Kernel], *, is_shared: bool = False) -> float:
        """Return the seconds of a `Compute` of these kernels: its start, and each kernel beside the others.

        Args:
            is_shared: Whether other devices compute at the same time.
        """
        if not kernels:
            return 0.0
        seconds = self.start_s(rank) + sum(self.kernels_s(rank, kernels))
        return self.contention * seconds if is_shared else seconds

    def start_s(self, rank: int) -> float:
        """Return the seconds to start a `Compute`; 0 with a profile, whose kernels include the start."""
        device = self.cluster.devices[rank]
        if not self.measured_start_s or device.profile is not None:
            return 0.0
        slowness = self.measured_flops_per_second / device.flops_per_second
        return self._correction(device, ANY_FAMILY) * slowness * self.measured_start_s

    def factors(self, operators: Sequence[str]) -> Mapping[str, float]:
        """Return operator -> its time when these run together / its time alone.

        Operators without measured runs are left out; their factor is 1.
        """
        return self.measured_runs.factors(operators) if self.measured_runs is not None else {}

    def _kernel_s(
        self, device: Device, kernel: Kernel, work: Work, known: Measurement | None, factor: float
    ) -> float:
        if device.profile is not None:
            return profile_s(device.profile, work)
        if known is not None and known.holds_for(kernel):
            share = self._share(device, kernel, work, known)
            if share is not None:
                return self._slowness(device, work.dtype) * known.seconds * share * factor
        if self.reference is not None:
            return self._slowness(device, work.dtype) * profile_s(self.reference, work)
        return _roofline_s(device, kernel)

    def _slowness(self, device: Device, dtype: str) -> float:
        """Rate of the measured device / rate of ``device``; by float32 unless both know ``dtype``'s."""
        if self.measured_rates and device.rates:
            measured, own = dict(self.measured_rates), dict(device.rates)
            if dtype in measured and dtype in own:
                return measured[dtype] / own[dtype]
        return self.measured_flops_per_second / device.flops_per_second

    def _share(self, device: Device, kernel: Kernel, work: Work, whole: Measurement) -> float | None:
        """Return a slice's time / its whole operator's time; None where that is unknown."""
        if self.reference is not None and whole.work is not None:
            all_of_it = profile_s(self.reference, whole.work)
            if all_of_it > 0:
                return profile_s(self.reference, work) / all_of_it
            return written_elements(kernel) / whole.elements if whole.elements else None
        # Add arithmetic and traffic: a slice that reads all of the weights is not cheap.
        byte_s = 1 / device.memory_bandwidth_bytes_per_s
        flop_s = 1 / device.rate(work.dtype)
        all_of_it = whole.flops * flop_s + whole.num_bytes * byte_s
        if all_of_it > 0:
            return (kernel.flops * flop_s + kernel.num_bytes * byte_s) / all_of_it
        return written_elements(kernel) / whole.elements if whole.elements else None

    def _correction(self, device: Device, family: str) -> float:
        factors = self.corrections.get(device.name)
        if not factors:
            return 1.0
        return factors.get(family, factors.get(ANY_FAMILY, 1.0))

    def assemble_s(self, rank: int, instruction: Assemble, itemsize: int) -> float:
        """Return the seconds to copy or sum the parts of a buffer."""
        moved = sum(part.region.num_elements for part in instruction.parts) * itemsize
        device = self._device(rank)
        profile = device.profile
        if profile is not None and profile.copy_s_per_byte > 0:
            return profile.copy_s + 2 * moved * profile.copy_s_per_byte
        return device.overhead_s + 2 * moved / device.memory_bandwidth_bytes_per_s

    def message_s(self, rank: int, num_bytes: int = 0) -> float:
        """Return the processor seconds of one frame on a rank's side: of sending or receiving, the larger."""
        if rank < 0:
            return 0.0
        cost = self.message_cost(rank)
        return max(
            cost.send_s + num_bytes * cost.send_s_per_byte,
            cost.receive_s + num_bytes * cost.receive_s_per_byte,
        )

    def send_s(self, rank: int, frame: Send, within: Region) -> float:
        """Return the processor seconds that a rank spends to send a frame.

        Args:
            within: Region of the buffer that the frame is cut from; a frame that is not contiguous in it
                has to be packed.
        """
        if rank < 0:
            return 0.0
        cost = self.message_cost(rank)
        per_byte = cost.send_s_per_byte
        if cost.pack_s_per_byte and not is_contiguous(frame.region, within):
            per_byte += cost.pack_s_per_byte
        seconds = cost.send_s + frame.num_bytes * per_byte if per_byte else cost.send_s
        return seconds + self._encoding_s(rank, frame) if frame.encoding else seconds

    def receive_s(self, rank: int, frame: Receive) -> float:
        """Return the processor seconds that a rank spends to receive a frame."""
        if rank < 0:
            return 0.0
        cost = self.message_cost(rank)
        per_byte = cost.receive_s_per_byte
        seconds = cost.receive_s + frame.num_bytes * per_byte if per_byte else cost.receive_s
        return seconds + self._encoding_s(rank, frame) if frame.encoding else seconds

    def _encoding_s(self, rank: int, frame: Send | Receive) -> float:
        """Return the seconds to encode or decode a frame: passes over the array as it is in memory."""
        whole = frame.region.num_elements * NUMPY_DTYPES[frame.dtype].itemsize
        device = self._device(rank)
        return (
            device.overhead_s + ENCODING_PASSES[frame.encoding] * whole / device.memory_bandwidth_bytes_per_s
        )

    def instruction_s(
        self, rank: int, instruction: Instruction, program: Program, shared: Container[str] = ()
    ) -> float:
        """Return the processor seconds of one instruction of a rank's program, without waiting.

        Args:
            shared: Stages that other ranks compute at the same time (`edgeflow.plan.program.shared_stages`).
        """
        if isinstance(instruction, Receive):  # the most frequent first: planning calls this millions of times
            return self.receive_s(rank, instruction)
        if isinstance(instruction, Send):
            is_token = instruction.buffer < 0
            within = TOKEN if is_token else program.buffers[instruction.buffer].region
            return self.send_s(rank, instruction, within)
        if isinstance(instruction, Compute):
            return self.compute_s(rank, instruction.kernels, is_shared=instruction.stage in shared)
        if isinstance(instruction, Assemble):
            return self.assemble_s(rank, instruction, NUMPY_DTYPES[instruction.dtype].itemsize)
        return 0.0

    def _device(self, rank: int) -> Device:
        return self.cluster.devices[rank if rank >= 0 else self.cluster.source_rank]

    def message_cost(self, rank: int) -> MessageCost:
        """Return a device's processor cost of frames: its profile's, else the model's own."""
        return self._message_costs[rank]

    @cached_property
    def _message_costs(self) -> tuple[MessageCost, ...]:
        own = MessageCost(
            send_s=self.message_overhead_s,
            receive_s=self.message_overhead_s,
            send_s_per_byte=self.message_s_per_byte,
            receive_s_per_byte=self.message_s_per_byte,
        )
        profiles = [device.profile for device in self.cluster.devices]
        return tuple(
            own if profile is None or profile.message is None else profile.message for profile in profiles
        )


def written_elements(kernel: Kernel) -> int:
    """Return the number of elements that a kernel writes."""
    return sum(region.num_elements for tensor, region in kernel.outputs if tensor)


def _roofline_s(device: Device, kernel: Kernel) -> float:
    rate = device.rate(compute_dtype(kernel)) if device.rates else device.flops_per_second
    return device.overhead_s * len(kernel.steps) + max(
        kernel.flops / rate, kernel.num_bytes / device.memory_bandwidth_bytes_per_s
    )


def is_contiguous(region: Region, within: Region) -> bool:
    """Whether a region is one piece of memory in a row-major buffer that holds ``within``.

    Examples:
        >>> whole = Region.full((4, 8))
        >>> from edgeflow.sharding.region import Interval
        >>> is_contiguous(whole.replace(0, Interval(1, 3)), whole)
        True
        >>> is_contiguous(whole.replace(1, Interval(1, 3)), whole)
        False
    """
    is_whole = True  # whether the region covers all dims after the current one
    for inner, outer in zip(reversed(region.intervals), reversed(within.intervals), strict=True):
        if not is_whole and inner.length != 1:
            return False
        is_whole = is_whole and inner == outer
    return True
