"""The registry: one file, one function and one line of description per strategy."""

from __future__ import annotations

from pathlib import Path

from edgeflow.planner import strategies
from edgeflow.planner.strategies import PUBLISHED, STRATEGIES, auto


def test_every_file_is_a_strategy_of_its_name() -> None:
    folder = Path(auto.__code__.co_filename).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}

    assert files == set(STRATEGIES)
    assert all(made.__name__ == name for name, made in STRATEGIES.items())


def test_what_auto_chooses_from_is_everything_but_itself_and_the_oracle() -> None:
    assert set(STRATEGIES) - set(PUBLISHED) == {"auto", "brute_force"}


def test_strategies_are_listed_with_what_they_do() -> None:
    assert list(strategies()) == list(STRATEGIES)
    assert next(iter(strategies())) == "single"
    assert all(len(line) > 20 and "\n" not in line for line in strategies().values())
