"""A device: its rates, its memory, its energy constants, and its measured profile."""

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
        rates: ``(dtype, sustained rate of multiply-adds in it)``, in operations per second. A dtype that is
            missing is assumed to run at the fp32 rate: narrower tensors then save memory traffic only.
        memory_bytes: Memory that edgeflow may use.
        memory_bandwidth_bytes_per_s: Sustained rate at which operators stream tensors of any dtype.
        overhead_s: Seconds to start one operator.
        power_idle_w, power_compute_w: Watts when idle, and additional watts while computing.
        joules_per_flop: Additional energy per operation, of any dtype; 0 where power covers it.
        joules_per_byte_sent, joules_per_byte_received: Energy of its network interface.
        upload_bytes_per_s, download_bytes_per_s: Rates of its network interface; None: as fast as its links.
        profile: Its measured profile; None: costs follow from the rates above.
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
    rates: tuple[tuple[str, float], ...] | msgspec.UnsetType = msgspec.UNSET  # is left out of JSON when unset

    def rate(self, dtype: str) -> float:
        """Return the operations per second in a dtype; the fp32 rate where its own is unknown."""
        return next((rate for name, rate in self.rates or () if name == dtype), self.flops_per_second)
