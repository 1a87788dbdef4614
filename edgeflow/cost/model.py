"""HOW LONG: seconds of kernels and transfers on the devices and links of a cluster.

Compute is a roofline: the time to start the calls, plus the longer of arithmetic at the device's rate and
traffic at its memory's. Where an operator was measured (whole, on a reference device), its share of that
measurement replaces the roofline. Ignores caches and that small slices are less efficient than large ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError
from edgeflow.plan.program import Assemble, Kernel

#: Processor time that a worker spends to send or receive one frame, at the reference speed. Measured for
#: Python gRPC on one desktop core.
MESSAGE_OVERHEAD_S: Final = 0.25e-3


class Measurement(msgspec.Struct, frozen=True):
    """One whole operator, as measured on a reference device."""

    seconds: float
    flops: int
    num_bytes: int


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """Costs on one cluster.

    Attributes:
        cluster: Whose devices and links are meant.
        measured: Operator name -> its measurement; may be empty, or lack operators.
        measured_flops_per_second: Rate that `Device.flops_per_second` gives to the device on which
            ``measured`` was taken; other devices scale from it.
        message_overhead_s: Processor time per frame on each side.
    """

    cluster: Cluster
    measured: Mapping[str, Measurement] = {}
    measured_flops_per_second: float = 0.0
    message_overhead_s: float = MESSAGE_OVERHEAD_S

    def __post_init__(self) -> None:
        if self.measured and self.measured_flops_per_second <= 0:
            raise ConfigError(
                "measured operators need the rate of the device that they were measured on, "
                f"got {self.measured_flops_per_second:g} FLOP/s"
            )

    def kernel_s(self, rank: int, kernel: Kernel) -> float:
        """Seconds of one kernel on a device."""
        device = self.cluster.devices[rank]
        known = self.measured.get(kernel.operator)
        if known is not None:
            slowness = self.measured_flops_per_second / device.flops_per_second
            if known.flops:
                return slowness * known.seconds * kernel.flops / known.flops
            if known.num_bytes:
                return slowness * known.seconds * kernel.num_bytes / known.num_bytes
        return device.overhead_s * len(kernel.steps) + max(
            kernel.flops / device.flops_per_second, kernel.num_bytes / device.memory_bandwidth_bytes_per_s
        )

    def assemble_s(self, rank: int, instruction: Assemble, itemsize: int) -> float:
        """Seconds to copy or sum the parts of a buffer."""
        if rank < 0:
            rank = self.cluster.source_rank
        moved = sum(part.region.num_elements for part in instruction.parts) * itemsize
        device = self.cluster.devices[rank]
        return device.overhead_s + 2 * moved / device.memory_bandwidth_bytes_per_s

    def message_s(self, rank: int) -> float:
        """Processor seconds that one frame costs on a rank's side."""
        return self.message_overhead_s if rank >= 0 else 0.0
