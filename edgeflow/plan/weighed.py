"""The figures that a decision was weighed by, beside those of the candidates that it was compared with.

Nothing that runs depends on these values: programs follow from the decision alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """Predicted figures of one request; an unknown figure is None, never 0.

    Attributes:
        latency_s: From a request's arrival to its whole answer, on an idle cluster.
        period_s: Time between two answers when requests never cease.
        energy_j: Energy that one request adds to the consumption of the idle devices; modelled.
        further: Figures besides these, by name. The name ends in the unit where there is one
            (``peak_memory_bytes``, ``top1_error``), and less is better.
    """

    latency_s: float | None = None
    period_s: float | None = None
    energy_j: float | None = None
    further: Mapping[str, float | None] = {}

    def get(self, name: str) -> float | None:
        """Return the figure called ``name``, or None if it is unknown."""
        return getattr(self, name) if name in _NAMED else self.further.get(name)


#: Figures that have a field of their own.
_NAMED: Final = tuple(name for name in Figures.__struct_fields__ if name != "further")


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One alternative that planning weighed.

    Attributes:
        label: Unique among the candidates of a plan.
        figures: The prediction; without a latency, the alternative was not predicted.
        reason: Why it was not predicted: it does not fit, for instance.
    """

    label: str
    figures: Figures = Figures()
    reason: str = ""

    @property
    def latency_s(self) -> float | None:
        return self.figures.latency_s

    @property
    def period_s(self) -> float | None:
        return self.figures.period_s

    @property
    def energy_j(self) -> float | None:
        return self.figures.energy_j


class Weighed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a decision was weighed.

    Attributes:
        strategy: Name of the strategy that was asked for.
        objective: Name of the objective that planning pursued (`edgeflow.planner.objective`).
        deadline_s: The latency to keep, if one was asked for.
        figures: The prediction for the decision.
        lower_bound_s: Latency that no plan on this cluster is predicted to beat; None where it was not asked.
        chosen: Label of the candidate that became the decision.
        candidates: Every alternative, the chosen one among them, best first.
    """

    strategy: str
    objective: str = "latency"
    deadline_s: float | None = None
    figures: Figures = Figures()
    lower_bound_s: float | None = None
    chosen: str = ""
    candidates: tuple[Candidate, ...] = ()
