"""Quantities in, quantities out, and a clear word where a unit is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow import units
from edgeflow.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("4 GiB", 4 * 2**30),
        ("4GiB", 4 * 2**30),
        ("  1.5 MiB ", 1_572_864),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("1e3 B", 1000),
        (".5 KiB", 512),
        ("17", 17),
        (17, 17),
        (17.4, 17),
    ],
)
def test_bytes(text: str | float, num_bytes: int) -> None:
    assert units.parse_bytes(text) == num_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.2 ms", 2e-4),
        ("3 us", 3e-6),
        ("3 µs", 3e-6),
        ("2 min", 120.0),
        ("1 h", 3600.0),
        (0.25, 0.25),
        ("7", 7.0),
    ],
)
def test_seconds(text: str | float, seconds: float) -> None:
    assert units.parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [
        ("1 Gbit/s", 125e6),
        ("100 Mbit/s", 12.5e6),
        ("100 Mbps", 12.5e6),
        ("100 MB/s", 100e6),
        ("1 MiB/s", 2.0**20),
        (5.0, 5.0),
    ],
)
def test_bandwidth(text: str | float, bytes_per_second: float) -> None:
    """Bits and bytes differ by the letter's case, so both are spelled out."""
    assert units.parse_bandwidth(text) == pytest.approx(bytes_per_second)


def test_flops_and_watts() -> None:
    assert units.parse_flops_per_second("40 GFLOP/s") == 40e9
    assert units.parse_watts("500 mW") == 0.5


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (units.parse_bytes, "4 gib", "'gib'"),
        (units.parse_bytes, "4 s", "known units"),
        (units.parse_bytes, "four", "'four'"),
        (units.parse_bytes, "", "4 GiB"),
        (units.parse_bytes, "nan", "'nan'"),
        (units.parse_seconds, "3 sec", "'sec'"),
        (units.parse_seconds, float("inf"), "finite"),
        (units.parse_seconds, "1e999 s", "finite"),
        (units.parse_bandwidth, "1 Gbits", "'Gbits'"),
        (units.parse_flops_per_second, "40 GFLOPS", "'GFLOPS'"),
        (units.parse_flops_per_second, True, "True"),
        (units.parse_watts, [], "[]"),
    ],
)
def test_a_wrong_quantity_is_shown_with_what_would_be_right(parse: object, text: object, said: str) -> None:
    assert callable(parse)
    with pytest.raises(ConfigError) as caught:
        parse(text, what="devices.pi4.x")

    assert "devices.pi4.x" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (units.format_bytes(0), "0 B"),
        (units.format_bytes(1023), "1023 B"),
        (units.format_bytes(1_572_864), "1.5 MiB"),
        (units.format_bytes(5 * 2**40), "5120.00 GiB"),
        (units.format_seconds(0), "0.0 ms"),
        (units.format_seconds(12.34e-3), "12.3 ms"),
        (units.format_seconds(1.5), "1.50 s"),
        (units.format_seconds(15e-6), "15 µs"),
        (units.format_flops(8.2e9), "8.2 GFLOP"),
        (units.format_flops(12), "12 FLOP"),
        (units.format_bandwidth(125e6), "1 Gbit/s"),
        (units.format_bandwidth(12.5e6), "100 Mbit/s"),
        (units.format_bandwidth(1), "8 bit/s"),
    ],
)
def test_formats(said: str, text: str) -> None:
    assert said == text


@given(st.integers(0, 2**50))
def test_what_is_printed_can_be_read_back(num_bytes: int) -> None:
    """Printing rounds, to one decimal at the least."""
    back = units.parse_bytes(units.format_bytes(num_bytes))

    assert math.isclose(back, num_bytes, rel_tol=0.051, abs_tol=0.5)


@given(st.floats(1e-6, 1e4))
def test_printed_seconds_can_be_read_back(seconds: float) -> None:
    assert units.parse_seconds(units.format_seconds(seconds)) == pytest.approx(seconds, rel=0.5)


@pytest.mark.parametrize(
    ("text", "joules"), [("2 J", 2.0), ("20 nJ", 2e-8), ("50 pJ", 5e-11), ("3 uJ", 3e-6), (0.5, 0.5)]
)
def test_joules(text: str | float, joules: float) -> None:
    assert units.parse_joules(text) == pytest.approx(joules)
