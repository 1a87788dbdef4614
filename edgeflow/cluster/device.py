"""A device: its rates, its memory, what it spends, and what was measured on it."""

from __future__ import annotations

from typing import Final

import msgspec

from edgeflow.cluster.profile import DeviceProfile

#: FLOP/s of a device of speed 1.0 in `Cluster.local`: about one desktop core in fp32. Only ratios matter
#: until a device is measured.
REFERENCE_FLOPS_PER_SECOND: Final = 40e9
REFERENCE_MEMORY_BANDWIDTH: Final = 10e9


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Hardware that can run a worker.

    Attributes:
        name: Unique in the cluster.
        flops_per_second: Sustained fp32 rate on large convolutions and matrix products.
        memory_bytes: What edgeflow may use.
        memory_bandwidth_bytes_per_s: Sustained rate at which operators stream tensors.
        overhead_s: Time to start one operator.
        power_idle_w, power_compute_w: Watts at rest, and on top of that while computing.
        joules_per_flop: On top of that, per operation; for devices whose energy is known by the operation.
        joules_per_byte_sent, joules_per_byte_received: What its network interface spends.
        upload_bytes_per_s, download_bytes_per_s: Rates of its network interface; None: as fast as its links.
        profile: What was measured on it; None: costs follow from the rates above.
    """

    name: str
    flops_per_second: float
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float = REFERENCE_MEMORY_BANDWIDTH
    overhead_s: float = 10e-6
    power_idle_w: float = 0.0
    power_compute_w: float = 0.0
    joules_per_flop: float = 0.0
    joules_per_byte_sent: float = 0.0
    joules_per_byte_received: float = 0.0
    upload_bytes_per_s: float | None = None
    download_bytes_per_s: float | None = None
    profile: DeviceProfile | None = None
