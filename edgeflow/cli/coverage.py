"""``edgeflow coverage``: which operators of a model can be split, along what, and which cannot."""

from __future__ import annotations

import msgspec
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.models import load_subject
from edgeflow.cli.screen import say, say_json, say_table
from edgeflow.planner.coverage import Coverage
from edgeflow.units import format_flops


def coverage(model: options.Model, input_shape: options.InputShape = None, json: options.Json = False) -> None:
    """Show what of a model can be split: by operator, along which dims, and the share of the FLOPs."""
    from edgeflow.planner.coverage import coverage as measure

    found = measure(load_subject(model, input_shapes=options.parse_input_shapes(input_shape)).graph)
    if json:
        say_json({**msgspec.to_builtins(found), "split_share": found.split_share})
        return
    say_table(_table(found))
    say(
        f"{found.name}: {100 * found.split_share:.2f} % of {format_flops(found.total_flops)} can be split; "
        f"{sum(item.num_whole for item in found.operators)} of "
        f"{sum(item.count for item in found.operators)} operators run whole"
    )


def _table(found: Coverage) -> Table:
    table = Table("operator", "count", "FLOPs", "splits along", "run whole", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for item in found.operators:
        whole = "" if not item.num_whole else f"{item.num_whole}" + ("" if item.has_rule else " (no rule)")
        table.add_row(
            item.target.removeprefix("aten."),
            str(item.count),
            format_flops(item.flops),
            ", ".join(item.dims) or "-",
            whole,
        )
    return table
