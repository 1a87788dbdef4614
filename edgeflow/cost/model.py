"""HOW LONG: seconds of kernels, copies and frames on the devices of a cluster.

Compute, from the weakest knowledge to the strongest:

1. a roofline of the device's rates: the time to start the calls, plus the longer of arithmetic and traffic;
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
from edgeflow.cost.work import Work, work_of
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
        seconds: Alone, less what any `Compute` takes to start (`CostModel.measured_start_s`).
        work: What it does; None: slices are taken to cost by FLOPs and bytes alone.
        elements: That it writes: by these a slice is told that neither computes nor moves anything, as far
            as can be known (a view, which a back end may have to copy). 0: unknown.
    """

    seconds: float
    flops: int
    num_bytes: int
    work: Work | None = None
    elements: int = 0


class CostModel(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Costs on one cluster.

    Attributes:
        cluster: Whose devices and links are meant.
        measured: Operator name -> its measurement; may be empty, or lack operators.
        measured_runs: The same operators in runs, where these were measured.
        measured_start_s: What a `Compute` takes there, whatever its kernels.
        measured_flops_per_second: Rate that `Device.flops_per_second` gives to the device on which
            ``measured`` was taken; other devices scale from it.
        reference: Profile of that device; used for devices without one of their own, scaled like
            ``measured``.
        message_overhead_s: Processor time per frame on each side, where a device's profile does not say.
        message_s_per_byte: The same, per byte on top of it.
        corrections: Device name -> family -> factor on its kernels' seconds; `ANY_FAMILY` for the rest.
        contention: Factor on kernels' seconds in stages that several devices compute at once: 1 where each
            is a machine of its own, more where they share one (`edgeflow.measure_contention`). When requests
            are many, that is all of them (`edgeflow.cost.timeline.Prediction.busy_s`).
    """

    cluster: Cluster
    measured: Mapping[str, Measurement] = {}
    measured_runs: MeasuredRuns | None = None
    measured_start_s: float = 0.0
    measured_flops_per_second: float = 0.0
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
        """Seconds of one kernel on a device.

        Args:
            factor: Of `factors`, for a kernel that is not alone.
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
        """Seconds of each of these kernels when they are run together.

        Args:
            among: Operators that are run together, where these are more than those of the kernels.
        """
        if self.measured_runs is None:
            return [self.kernel_s(rank, kernel) for kernel in kernels]
        factors = self.factors([kernel.operator for kernel in kernels] if among is None else among)
        return [self.kernel_s(rank, kernel, factor=factors.get(kernel.operator, 1.0)) for kernel in kernels]

    def compute_s(self, rank: int, kernels: Sequence[Kernel], *, is_shared: bool = False) -> float:
        """Seconds of a `Compute` of these kernels: to start it, and of each of them beside the others.

        Args:
            is_shared: Whether other devices compute at the same time.
        """
        if not kernels:
            return 0.0
        seconds = self.start_s(rank) + sum(self.kernels_s(rank, kernels))
        return self.contention * seconds if is_shared else seconds

    def start_s(self, rank: int) -> float:
        """Seconds of a `Compute` beside those of its kernels; a profile has them in its kernels."""
        device = self.cluster.devices[rank]
        if not self.measured_start_s or device.profile is not None:
            return 0.0
        return self._correction(device, ANY_FAMILY) * self._slowness(device) * self.measured_start_s

    def factors(self, operators: Sequence[str]) -> Mapping[str, float]:
        """Operator -> the part that it takes of what it takes alone, when these are run together.

        Those that it is not known of are left out: they take what they take alone.
        """
        return self.measured_runs.factors(operators) if self.measured_runs is not None else {}

    def _kernel_s(
        self, device: Device, kernel: Kernel, work: Work, known: Measurement | None, factor: float
    ) -> float:
        if device.profile is not None:
            return profile_s(device.profile, work)
        if known is not None:
            share = self._share(device, kernel, work, known)
            if share is not None:
                return self._slowness(device) * known.seconds * share * factor
        if self.reference is not None:
            return self._slowness(device) * profile_s(self.reference, work)
        return _roofline_s(device, kernel)

    def _slowness(self, device: Device) -> float:
        return self.measured_flops_per_second / device.flops_per_second

    def _share(self, device: Device, kernel: Kernel, work: Work, whole: Measurement) -> float | None:
        """The part of a whole operator's time that a slice of it takes; None where that is unknown."""
        if self.reference is not None and whole.work is not None:
            all_of_it = profile_s(self.reference, whole.work)
            if all_of_it > 0:
                return profile_s(self.reference, work) / all_of_it
            return written_elements(kernel) / whole.elements if whole.elements else None
        # Arithmetic and traffic one after the other: a slice that reads all of the weights is not cheap.
        byte_s = 1 / device.memory_bandwidth_bytes_per_s
        flop_s = 1 / device.flops_per_second
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
        """Seconds to copy or sum the parts of a buffer."""
        moved = sum(part.region.num_elements for part in instruction.parts) * itemsize
        device = self._device(rank)
        profile = device.profile
        if profile is not None and profile.copy_s_per_byte > 0:
            return profile.copy_s + 2 * moved * profile.copy_s_per_byte
        return device.overhead_s + 2 * moved / device.memory_bandwidth_bytes_per_s

    def message_s(self, rank: int, num_bytes: int = 0) -> float:
        """Processor seconds that one frame costs on a rank's side, sent or received: the dearer of both."""
        if rank < 0:
            return 0.0
        cost = self.message_cost(rank)
        return max(
            cost.send_s + num_bytes * cost.send_s_per_byte,
            cost.receive_s + num_bytes * cost.receive_s_per_byte,
        )

    def send_s(self, rank: int, frame: Send, within: Region) -> float:
        """Processor seconds that a rank spends to send a frame.

        Args:
            within: Region of the buffer that the frame is cut from; if it is not contiguous there, it has
                to be packed.
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
        """Processor seconds that a rank spends to receive a frame."""
        if rank < 0:
            return 0.0
        cost = self.message_cost(rank)
        per_byte = cost.receive_s_per_byte
        seconds = cost.receive_s + frame.num_bytes * per_byte if per_byte else cost.receive_s
        return seconds + self._encoding_s(rank, frame) if frame.encoding else seconds

    def _encoding_s(self, rank: int, frame: Send | Receive) -> float:
        """Seconds to make a frame narrower, or to undo that: passes over the array as it is in memory."""
        whole = frame.region.num_elements * NUMPY_DTYPES[frame.dtype].itemsize
        device = self._device(rank)
        return (
            device.overhead_s + ENCODING_PASSES[frame.encoding] * whole / device.memory_bandwidth_bytes_per_s
        )

    def instruction_s(
        self, rank: int, instruction: Instruction, program: Program, shared: Container[str] = ()
    ) -> float:
        """Processor seconds of one instruction of a rank's program; waiting is not in it.

        Args:
            shared: Stages that other ranks compute at the same time (`edgeflow.plan.program.shared_stages`).
        """
        if isinstance(instruction, Receive):  # the most frequent first: planning asks this by the million
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
        """What frames cost a device's processor: by its profile, else the model's own figures."""
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
    """Elements of all that a kernel makes."""
    return sum(region.num_elements for tensor, region in kernel.outputs if tensor)


def _roofline_s(device: Device, kernel: Kernel) -> float:
    return device.overhead_s * len(kernel.steps) + max(
        kernel.flops / device.flops_per_second, kernel.num_bytes / device.memory_bandwidth_bytes_per_s
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
    is_whole = True  # of the dims after the one looked at
    for inner, outer in zip(reversed(region.intervals), reversed(within.intervals), strict=True):
        if not is_whole and inner.length != 1:
            return False
        is_whole = is_whole and inner == outer
    return True
