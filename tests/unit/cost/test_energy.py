"""Energy: modelled by hand, measured on made-up counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeflow.cluster import Device
from edgeflow.cost.energy import Ina3221Reader, RaplReader, find_energy_reader, modelled


def test_modelled_energy_by_hand() -> None:
    device = Device(
        name="d",
        flops_per_second=1e9,
        memory_bytes=1,
        power_idle_w=2.0,
        power_compute_w=5.0,
        joules_per_flop=1e-9,
        joules_per_byte_sent=1e-6,
        joules_per_byte_received=3e-6,
    )

    spent = modelled(device, elapsed_s=10.0, busy_s=4.0, flops=10**9, sent_bytes=1000, received_bytes=2000)

    assert (spent.idle_j, spent.compute_j, spent.network_j) == pytest.approx((20.0, 21.0, 7e-3))
    assert spent.total_j == pytest.approx(41.007)
    assert spent.active_j == pytest.approx(21.007)
    assert spent.source == "modelled"


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def domain(root: Path, name: str, label: str, energy_uj: int, *, range_uj: int = 1000) -> Path:
    folder = root / "sys/class/powercap" / name
    write(folder / "name", label)
    write(folder / "energy_uj", energy_uj)
    write(folder / "max_energy_range_uj", range_uj)
    return folder


def test_rapl_adds_packages_and_not_their_parts(tmp_path: Path) -> None:
    packages = [domain(tmp_path, f"intel-rapl:{n}", f"package-{n}", 100) for n in range(2)]
    core = domain(tmp_path, "intel-rapl:0:0", "core", 100)
    whole = domain(tmp_path, "intel-rapl:2", "psys", 100)
    reader = RaplReader(tmp_path)

    for folder, energy_uj in zip((*packages, core, whole), (300, 150, 190, 900), strict=True):
        write(folder / "energy_uj", energy_uj)

    assert reader.energy_j() == pytest.approx((200 + 50) * 1e-6)


def test_rapl_counters_run_over(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 990)
    reader = RaplReader(tmp_path)

    write(package / "energy_uj", 20)
    assert reader.energy_j() == pytest.approx(30e-6)
    write(package / "energy_uj", 25)
    assert reader.energy_j() == pytest.approx(35e-6)


def monitor(root: Path, volts_mv: int, current_ma: int) -> None:
    folder = root / "sys/class/hwmon/hwmon3"
    write(folder / "name", "ina3221")
    write(folder / "in1_label", "VDD_IN")
    write(folder / "in1_input", volts_mv)
    write(folder / "curr1_input", current_ma)
    write(folder / "in2_label", "VDD_CPU_GPU_CV")
    write(folder / "in2_input", 5000)
    write(folder / "curr2_input", 9999)


def test_a_jetsons_supply_rail_is_integrated_over_time(tmp_path: Path) -> None:
    monitor(tmp_path, 5000, 1000)  # 5 W
    now = [0.0]
    reader = Ina3221Reader(tmp_path, clock=lambda: now[0])
    assert reader.power_w() == pytest.approx(5.0)

    monitor(tmp_path, 5000, 3000)  # 15 W
    now[0] = 2.0

    assert reader.energy_j() == pytest.approx(20.0)  # 2 s at 10 W on average
    now[0] = 3.0
    assert reader.energy_j() == pytest.approx(35.0)


def test_a_machine_without_a_meter(tmp_path: Path) -> None:
    assert find_energy_reader(tmp_path) is None


def test_a_meter_that_is_there_is_found(tmp_path: Path) -> None:
    monitor(tmp_path, 5000, 1000)
    found = find_energy_reader(tmp_path)
    assert found is not None
    assert found.name == "ina3221"

    domain(tmp_path, "intel-rapl:0", "package-0", 1)
    found = find_energy_reader(tmp_path)
    assert found is not None
    assert found.name == "rapl"


def test_a_meter_that_makes_no_sense_is_no_meter(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 1)
    write(folder / "energy_uj", "nonsense")

    assert find_energy_reader(tmp_path) is None
