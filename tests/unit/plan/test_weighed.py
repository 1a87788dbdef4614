"""Figures by name: an unknown one is None, and further ones stand beside those with a field."""

from __future__ import annotations

import msgspec
import pytest

from edgeflow.plan import Candidate, Figures, Weighed


@pytest.mark.parametrize("name", ["latency_s", "period_s", "energy_j", "top1_error"])
def test_an_unknown_figure_is_none(name: str) -> None:
    assert Figures().get(name) is None


def test_figures_are_found_by_name() -> None:
    figures = Figures(0.5, energy_j=0.0, further={"peak_memory_bytes": 4096.0})

    assert figures.get("latency_s") == 0.5
    assert figures.get("energy_j") == 0.0
    assert figures.get("peak_memory_bytes") == 4096.0
    assert figures.get("further") is None  # no figure, though it is a field


def test_what_is_unknown_stays_so_in_json() -> None:
    weighed = Weighed(
        strategy="auto",
        figures=Figures(0.25, further={"top1_error": 0.1, "start_s": None}),
        candidates=(Candidate("a", Figures(0.25)), Candidate("b", reason="too large")),
    )

    text = msgspec.json.encode(weighed)

    assert msgspec.json.decode(text, type=Weighed) == weighed
    assert b"period_s" not in text
    assert weighed.candidates[1].latency_s is None
