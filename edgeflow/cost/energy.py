"""Energy: modelled from a device's constants, or measured by the counters that some machines have.

Every figure says which of the two it is. Readers take the root of the file system, so that they can be tried
without the hardware.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeflow.cluster.device import Device

Source = Literal["modelled", "measured"]


class DeviceEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """What one device spends on one request, in joules.

    Attributes:
        idle_j: For being switched on while the request runs; the same whether it takes part or not.
        compute_j: On top of that, for kernels, copies and frames.
        network_j: For bytes sent and received.
        source: Where the figures are from.
    """

    idle_j: float = 0.0
    compute_j: float = 0.0
    network_j: float = 0.0
    source: Source = "modelled"

    @property
    def total_j(self) -> float:
        return self.idle_j + self.compute_j + self.network_j

    @property
    def active_j(self) -> float:
        """What would not have been spent without the request."""
        return self.compute_j + self.network_j


def modelled(
    device: Device, *, elapsed_s: float, busy_s: float, flops: int, sent_bytes: int, received_bytes: int
) -> DeviceEnergy:
    """Energy of a device by its constants: idle and compute power, joules per operation and per byte.

    Args:
        elapsed_s: How long the request takes.
        busy_s: How long the device's processor works for it.
    """
    return DeviceEnergy(
        idle_j=device.power_idle_w * elapsed_s,
        compute_j=device.power_compute_w * busy_s + device.joules_per_flop * flops,
        network_j=device.joules_per_byte_sent * sent_bytes + device.joules_per_byte_received * received_bytes,
    )
