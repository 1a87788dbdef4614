"""``edgeflow coverage``: which operators of a model can be split, along which dims, and which cannot."""

from __future__ import annotations

from typing import Final

import msgspec
from rich.table import Table

from edgeflow.cli import options
from edgeflow.cli.models import load_subject
from edgeflow.cli.screen import say, say_json, say_table
from edgeflow.planner.coverage import Coverage, Reach
from edgeflow.units import format_flops

#: Most lines about dims of inputs; --json has all.
_MAX_REACHES: Final = 4


def coverage(
    model: options.Model, input_shape: options.InputShape = None, json: options.Json = False
) -> None:
    """Show which operators of a model can be split along which dims, and how much planners can reach.

    ``sum`` is a split of the dim that an operator sums over: each device computes a partial sum. An operator
    that cannot be split runs whole on one device.
    """
    from edgeflow.planner.coverage import coverage as measure

    found = measure(load_subject(model, input_shapes=options.parse_input_shapes(input_shape)).graph)
    if json:
        say_json(
            {
                **msgspec.to_builtins(found),
                "split_share": found.split_share,
                "flops_are_bounds": found.is_bounded,
            }
        )
        return
    say_table(_table(found))
    say()
    say(_summary(found))
    for reach in _shown(found):
        say(f"  {_words(reach, found)}")


def _table(found: Coverage) -> Table:
    table = Table(
        "operator",
        "count",
        "FLOPs",
        "splits along",
        "rows/tokens",
        "tensor",
        "runs whole",
        box=None,
        pad_edge=False,
    )
    for index in (1, 2, 4, 5):
        table.columns[index].justify = "right"
    for item in found.operators:
        table.add_row(
            item.target.removeprefix("aten."),
            str(item.count),
            format_flops(item.flops),
            ", ".join(_counted(way, number, item.count) for way, number in item.splits.items()) or "-",
            str(item.num_by_inputs or "-"),
            str(item.num_by_tensor or "-"),
            "; ".join(f"{number}: {why}" for why, number in item.whole.items()),
        )
    return table


def _counted(way: str, number: int, count: int) -> str:
    """Return a way of splitting; with the number of operators unless it is all of the kind."""
    return way if number == count else f"{way} ({number})"


def _summary(found: Coverage) -> str:
    count = sum(item.count for item in found.operators)
    whole = sum(item.num_whole for item in found.operators)
    at_most, at_least = ("at most ", "at least ") if found.is_bounded else ("", "")
    share, flops = f"{at_most}{100 * found.split_share:.2f} %", f"{at_least}{format_flops(found.total_flops)}"
    return f"{found.name}: {share} of {flops} can be split; {whole} of {count} operators run whole"


def _shown(found: Coverage) -> list[Reach]:
    rows = [reach for reach in found.reaches if reach.kind == "rows"]
    return rows[:_MAX_REACHES] + [reach for reach in found.reaches if reach.kind == "tensor"]


def _words(reach: Reach, found: Coverage) -> str:
    share = 100 * reach.flops / found.total_flops if found.total_flops else 0.0
    amount = f"{reach.num_operators} operators, {share:.2f} % of the FLOPs"
    if reach.kind == "tensor":
        return f"tensor parallelism ({found.num_groups} groups, and columns) reaches {amount}"
    return f"a split of dim {reach.dim} of {reach.input!r} reaches {amount}"
