"""From a stretch and a layout to drafts of stages."""

from __future__ import annotations

from collections.abc import Sequence

from edgeflow.graph.ir import Operator
from edgeflow.planner.analysis import Analysis
from edgeflow.planner.layouts.layout import Draft, Layout, single_draft
from edgeflow.planner.layouts.rows import rows_drafts
from edgeflow.planner.layouts.tensor import tensor_drafts


def draft(analysis: Analysis, operators: Sequence[Operator], layout: Layout) -> list[Draft]:
    """Return the drafts of a stretch, in order."""
    if layout.kind == "single":
        return [single_draft(analysis, operators, layout.devices[0])]
    if layout.kind == "rows":
        return rows_drafts(analysis, operators, layout)
    return tensor_drafts(analysis, operators, layout)
