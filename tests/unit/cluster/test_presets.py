"""Presets: every one makes a device, and no figure is without its source."""

from __future__ import annotations

import pytest

from edgeflow.cluster import Device
from edgeflow.cluster.file import parse_fields
from edgeflow.cluster.presets import PRESETS, Preset


def device(name: str) -> Device:
    network = {"bandwidth": "1 Gbit/s", "latency": 0}
    (made,) = parse_fields({"network": network, "devices": {"mine": {"preset": name}}})["devices"]
    return made


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_figure_has_a_source(preset: Preset) -> None:
    assert set(preset.sources) == set(preset.keys())
    assert all(preset.sources.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_device(name: str) -> None:
    made = device(name)

    assert made.name == "mine"
    assert 1e9 < made.flops_per_second < 1e12
    assert made.upload_bytes_per_s == made.download_bytes_per_s
    assert 0 < made.power_idle_w < made.power_idle_w + made.power_compute_w < 250


def test_newer_boards_are_faster() -> None:
    speeds = [device(name).flops_per_second for name in ("pi3b", "pi4", "pi5")]

    assert speeds == sorted(speeds)
