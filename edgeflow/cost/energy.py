"""Energy: modelled from a device's constants, or measured by the counters that some machines have.

Every figure says whether it is modelled or measured. Readers take the root of the file system, so that tests
need no hardware.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from edgeflow.cluster.device import Device

Source = Literal["modelled", "measured"]


class DeviceEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of one device for one request, in joules.

    Attributes:
        idle_j: Idle energy while the request runs, whether or not the device takes part.
        compute_j: Additional energy of kernels, copies and frames.
        network_j: Energy of bytes sent and received.
        source: Whether the figures are modelled or measured.
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
        """Energy without the idle part."""
        return self.compute_j + self.network_j


def modelled(
    device: Device, *, elapsed_s: float, busy_s: float, flops: int, sent_bytes: int, received_bytes: int
) -> DeviceEnergy:
    """Energy of a device by its constants: idle and compute power, joules per operation and per byte.

    Args:
        elapsed_s: Duration of the request.
        busy_s: Seconds that the device's processor works for it.
        flops: Operations of any dtype.
        sent_bytes, received_bytes: Bytes on the wire, in the frames' own dtypes.
    """
    return DeviceEnergy(
        idle_j=device.power_idle_w * elapsed_s,
        compute_j=device.power_compute_w * busy_s + device.joules_per_flop * flops,
        network_j=device.joules_per_byte_sent * sent_bytes + device.joules_per_byte_received * received_bytes,
    )


class EnergyReader(Protocol):
    """A meter of this machine; its figures are measured."""

    name: str

    def energy_j(self) -> float:
        """Joules since the reader was made; call it more often than once a minute."""


class RaplReader:
    """The energy counters of x86 processors, by package: ``/sys/class/powercap/intel-rapl:*``.

    Counts processors (and on some machines memory), not the whole computer.
    """

    name = "rapl"

    def __init__(self, root: Path = Path("/")) -> None:
        domains = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        # `intel-rapl:0:1` is a part of `intel-rapl:0`, and `psys`, where it is, contains the packages.
        packages = [path for path in domains if re.fullmatch(r"intel-rapl:\d+", path.name)]
        self._packages = [path for path in packages if _text(path / "name").startswith("package")]
        if not self._packages:
            raise FileNotFoundError(f"no package counters under {root}sys/class/powercap")
        self._last = [_number(path / "energy_uj") for path in self._packages]
        self._range = [_number(path / "max_energy_range_uj") for path in self._packages]
        self._total_uj = 0.0

    def energy_j(self) -> float:
        for index, path in enumerate(self._packages):
            now = _number(path / "energy_uj")
            step = now - self._last[index]
            self._total_uj += step if step >= 0 else step + self._range[index]
            self._last[index] = now
        return self._total_uj * 1e-6


class Ina3221Reader:
    """The power monitor on NVIDIA Jetson boards: power of the supply rail, integrated over the readings."""

    name = "ina3221"

    #: Rails that carry the whole board, by board generation.
    _SUPPLIES: Final = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._rail = self._find(root)
        self._clock = clock
        self._last_s, self._last_w = clock(), self.power_w()
        self._total_j = 0.0

    def _find(self, root: Path) -> tuple[Path, Path]:
        """Files of the supply's voltage (mV) and current (mA)."""
        for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
            if not _text(monitor / "name").startswith("ina3221"):
                continue
            for label in sorted(monitor.glob("in*_label")):
                if _text(label) in self._SUPPLIES:
                    number = label.name.removeprefix("in").removesuffix("_label")
                    return monitor / f"in{number}_input", monitor / f"curr{number}_input"
        raise FileNotFoundError(f"no INA3221 with a supply rail under {root}sys/class/hwmon")

    def power_w(self) -> float:
        millivolts, milliamperes = (_number(path) for path in self._rail)
        return millivolts * milliamperes * 1e-6

    def energy_j(self) -> float:
        now_s, now_w = self._clock(), self.power_w()
        self._total_j += (now_s - self._last_s) * (now_w + self._last_w) / 2
        self._last_s, self._last_w = now_s, now_w
        return self._total_j


def find_energy_reader(root: Path = Path("/")) -> EnergyReader | None:
    """Return a meter of this machine; None if it has none, or may not be read."""
    for kind in (RaplReader, Ina3221Reader):
        try:
            return kind(root)
        except (OSError, ValueError):
            continue
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))
