"""Common boards in round figures, each with its source; measure your own with `edgeflow profile`.

Figures are of all cores of the processor; edgeflow does not use a Jetson's GPU. A figure without a published
source is marked *estimated*.

Speeds are in fp32, but published rates are of double precision Linpack (HPL). Single precision is at best
twice as fast, and convolutions reach about half of that, so the HPL rate stands for both: *estimated from*
HPL.
Presets have no rates of other dtypes: none is published for these boards on comparable work, so those are
assumed to equal the fp32 rate (`edgeflow.cluster.device.Device.rates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

_HPL: Final = "github.com/geerlingguy/top500-benchmark, README"
_PIDRAMBLE: Final = "pidramble.com/wiki/benchmarks/power-consumption"


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of device.

    Attributes:
        name: As cluster files name it.
        title: Full name, for display.
        speed, memory, ...: Values of the keys of a cluster file; see `edgeflow.cluster.file`.
        sources: Key -> source of its figure.
    """

    name: str
    title: str
    speed: str
    memory: str
    memory_bandwidth: str
    overhead: str
    power_idle: str
    power_compute: str
    nic: str
    sources: Mapping[str, str]

    def keys(self) -> dict[str, str]:
        """Return the keys of a cluster file for such a device."""
        return {
            key: getattr(self, key)
            for key in (
                "speed",
                "memory",
                "memory_bandwidth",
                "overhead",
                "power_idle",
                "power_compute",
                "nic",
            )
        }


_ESTIMATED: Final = "estimated"
_GIGABIT: Final = "gigabit port, about 940 Mbit/s of payload"
_ALL: Final = (
    Preset(
        name="pi3b",
        title="Raspberry Pi 3 Model B, 1 GB",
        speed="3.5 GFLOP/s",
        memory="500 MiB",
        memory_bandwidth="2 GB/s",
        overhead="80 us",
        power_idle="1.4 W",
        power_compute="2.3 W",
        nic="94 Mbit/s",
        sources={
            "speed": _ESTIMATED,
            "memory": "half of 1 GB",
            "memory_bandwidth": _ESTIMATED,
            "overhead": _ESTIMATED,
            "power_idle": f"{_PIDRAMBLE}: idle 1.4 W",
            "power_compute": f"{_PIDRAMBLE}: four busy cores 3.7 W, less idle",
            "nic": "100 Mbit/s port",
        },
    ),
    Preset(
        name="pi4",
        title="Raspberry Pi 4 Model B, 4 GB",
        speed="11.5 GFLOP/s",
        memory="3 GiB",
        memory_bandwidth="5.5 GB/s",
        overhead="40 us",
        power_idle="2.7 W",
        power_compute="3.7 W",
        nic="940 Mbit/s",
        sources={
            "speed": f"{_ESTIMATED} from HPL, 11.9 GFLOP/s at 1.8 GHz ({_HPL})",
            "memory": "of 4 GB",
            "memory_bandwidth": "STREAM copy, 5.53 GB/s (sci-pi.org.uk/bench/stream.html)",
            "overhead": _ESTIMATED,
            "power_idle": f"{_PIDRAMBLE}: idle 2.7 W",
            "power_compute": f"{_PIDRAMBLE}: four busy cores 6.4 W, less idle",
            "nic": _GIGABIT,
        },
    ),
    Preset(
        name="pi5",
        title="Raspberry Pi 5, 8 GB",
        speed="30 GFLOP/s",
        memory="6 GiB",
        memory_bandwidth="9 GB/s",
        overhead="20 us",
        power_idle="4 W",
        power_compute="7 W",
        nic="940 Mbit/s",
        sources={
            "speed": f"{_ESTIMATED} from HPL, 30.2 GFLOP/s at 2.4 GHz ({_HPL})",
            "memory": "of 8 GB",
            "memory_bandwidth": _ESTIMATED,
            "overhead": _ESTIMATED,
            "power_idle": "4 to 5 W (github.com/geerlingguy/pi-isp/issues/6)",
            "power_compute": f"HPL, 11 W at the wall ({_HPL}), less idle",
            "nic": _GIGABIT,
        },
    ),
    Preset(
        name="jetson-nano",
        title="NVIDIA Jetson Nano, 4 GB, its four Cortex-A57 cores",
        speed="12 GFLOP/s",
        memory="3 GiB",
        memory_bandwidth="9 GB/s",
        overhead="40 us",
        power_idle="2 W",
        power_compute="5 W",
        nic="940 Mbit/s",
        sources={
            "speed": _ESTIMATED,
            "memory": "of 4 GB, which the GPU shares",
            "memory_bandwidth": f"{_ESTIMATED}; the data sheet's peak is 25.6 GB/s",
            "overhead": _ESTIMATED,
            "power_idle": _ESTIMATED,
            "power_compute": f"{_ESTIMATED}, within its power modes of 5 and 10 W",
            "nic": _GIGABIT,
        },
    ),
    Preset(
        name="jetson-orin-nano",
        title="NVIDIA Jetson Orin Nano, 8 GB, its six Cortex-A78AE cores",
        speed="45 GFLOP/s",
        memory="6 GiB",
        memory_bandwidth="25 GB/s",
        overhead="20 us",
        power_idle="5 W",
        power_compute="8 W",
        nic="940 Mbit/s",
        sources={
            "speed": _ESTIMATED,
            "memory": "of 8 GB, which the GPU shares",
            "memory_bandwidth": f"{_ESTIMATED}; the data sheet's peak is 68 GB/s",
            "overhead": _ESTIMATED,
            "power_idle": _ESTIMATED,
            "power_compute": f"{_ESTIMATED}, within its power modes of 7 and 15 W",
            "nic": _GIGABIT,
        },
    ),
    Preset(
        name="n100",
        title="Mini PC with an Intel N100, 8 GB",
        speed="37 GFLOP/s",
        memory="6 GiB",
        memory_bandwidth="18 GB/s",
        overhead="15 us",
        power_idle="6 W",
        power_compute="10 W",
        nic="940 Mbit/s",
        sources={
            "speed": f"{_ESTIMATED} from HPL, 37.2 GFLOP/s passively, 62.9 GFLOP/s well cooled ({_HPL})",
            "memory": "of 8 GB",
            "memory_bandwidth": f"{_ESTIMATED}; one channel, 38.4 GB/s at the most",
            "overhead": _ESTIMATED,
            "power_idle": _ESTIMATED,
            "power_compute": f"HPL, 16 W at the wall ({_HPL}), less idle",
            "nic": _GIGABIT,
        },
    ),
    Preset(
        name="old-laptop",
        title="A laptop of about 2015, two cores with AVX2, 8 GB, on its cable",
        speed="40 GFLOP/s",
        memory="5 GiB",
        memory_bandwidth="12 GB/s",
        overhead="15 us",
        power_idle="8 W",
        power_compute="17 W",
        nic="940 Mbit/s",
        sources=dict.fromkeys(
            ("speed", "memory", "memory_bandwidth", "overhead", "power_idle", "power_compute"), _ESTIMATED
        )
        | {"nic": _GIGABIT},
    ),
    Preset(
        name="desktop",
        title="A desktop with six cores of about 2020 (Ryzen 5 5600X), 16 GB",
        speed="229 GFLOP/s",
        memory="12 GiB",
        memory_bandwidth="30 GB/s",
        overhead="8 us",
        power_idle="50 W",
        power_compute="146 W",
        nic="940 Mbit/s",
        sources={
            "speed": f"{_ESTIMATED} from HPL, 229 GFLOP/s ({_HPL})",
            "memory": "of 16 GB",
            "memory_bandwidth": f"{_ESTIMATED}; two channels",
            "overhead": _ESTIMATED,
            "power_idle": _ESTIMATED,
            "power_compute": f"HPL, 196 W at the wall ({_HPL}), less idle",
            "nic": _GIGABIT,
        },
    ),
)

#: By name.
PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({preset.name: preset for preset in _ALL})
