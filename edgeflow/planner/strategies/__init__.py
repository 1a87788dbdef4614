"""Strategies, one per file: each is a function from a task to a plan.

A strategy's module, its function and the strategy have the same name, and the first line of the module's
docstring describes it. To add a strategy, add a file and its name to `PUBLISHED_NAMES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, update_wrapper
from importlib import import_module
from typing import Final

from edgeflow.planner.strategies.auto import auto
from edgeflow.planner.task import Strategy

#: Strategies from elsewhere, in the order in which they are shown: the plainest first.
PUBLISHED_NAMES: Final = (
    "single",
    "replicate",
    "modnn",
    "deepthings",
    "deeperthings",
    "coedge",
    "edgeflow_paper",
    "fused",
    "megatron",
    "galaxy",
    "voltage",
    "pipeline",
)


def _strategy(name: str) -> Strategy:
    found: Strategy = getattr(import_module(f"{__name__}.{name}"), name)
    return found


#: What `auto` and the Pareto front choose from.
PUBLISHED: Final[Mapping[str, Strategy]] = {name: _strategy(name) for name in PUBLISHED_NAMES}

#: Every strategy by name.
STRATEGIES: Final[Mapping[str, Strategy]] = {
    **PUBLISHED,
    "auto": update_wrapper(partial(auto, rivals=tuple(PUBLISHED.values())), auto),
    "brute_force": _strategy("brute_force"),
}


def descriptions() -> Mapping[str, str]:
    """Return the strategies' names and what each does, in one line."""
    modules = {name: import_module(f"{__name__}.{name}") for name in STRATEGIES}
    return {name: (module.__doc__ or name).splitlines()[0] for name, module in modules.items()}
