"""How much memory do fused tiles save, and how much work do they repeat? See README.md.

python -m simulations.deepthings [--output FOLDER] [--small]
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from edgeflow.simulator.sweep_plot import figure
from simulations.command import Row, distinct, finish, parser, where, write
from simulations.deepthings.fusion import LAYERS, memory_mib, work_share

#: Tiles along rows and columns; 1: whole maps.
GRIDS = (1, 2, 3, 4, 5, 6)
#: Convolutions and pools that are fused; the paper fuses the last of these.
DEPTHS = (4, 8, 12, LAYERS)


def main() -> None:
    options = parser(__doc__, Path(__file__).parent).parse_args()
    rows = measure(GRIDS[:2] if options.small else GRIDS, DEPTHS[:2] if options.small else DEPTHS)
    write(options.output / "results.csv", rows)
    draw(rows, options.output / "deepthings.png")


def measure(grids: tuple[int, ...], depths: tuple[int, ...]) -> list[Row]:
    """Return a row for each number of fused layers and grid."""
    rows: list[Row] = []
    for layers, size in product(depths, grids):
        maps, filters = memory_mib((size, size), layers)
        again, reused = (work_share((size, size), layers, reuse=reuse) for reuse in (False, True))
        rows.append(
            {
                "layers": layers,
                "grid": f"{size}x{size}",
                "maps_mib": round(maps, 4),
                "filters_mib": round(filters, 4),
                "memory_mib": round(maps + filters, 4),
                "work": round(again, 4),
                "work_with_reuse": round(reused, 4),
            }
        )
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Memory of all layers, memory over their number, and work over grids."""
    made = figure(11, 3.4)
    bars, curves, work = made.subplots(1, 3)
    depths = distinct(rows, "layers")
    all_layers = where(rows, layers=max(depths))
    names = [row["grid"] for row in all_layers]
    filters, maps = ([row[key] for row in all_layers] for key in ("filters_mib", "maps_mib"))
    bars.bar(names, filters, color="#ef8636", label="filters")
    bars.bar(names, maps, bottom=filters, color="#3b75af", label="largest input and output")
    bars.legend(frameon=False, fontsize=7)
    finish(bars, f"memory of a device, {max(depths)} layers fused", "tiles", "MiB")
    for index, name in enumerate(names):
        mine = where(rows, grid=name)
        xs, ys = ([row[key] for row in mine] for key in ("layers", "memory_mib"))
        curves.plot(xs, ys, marker="o", markersize=3, color=f"C{index}", label=name)
    curves.set_xticks(depths)
    curves.legend(frameon=False, fontsize=7)
    finish(curves, "memory of a device", "layers fused", "MiB")
    for index, layers in enumerate(depths):
        mine = where(rows, layers=layers)
        for column, style, text in (("work", "-", ""), ("work_with_reuse", "--", ", borders reused")):
            ys = [row[column] for row in mine]
            work.plot(names, ys, style, marker="o", markersize=3, color=f"C{index}", label=f"{layers}{text}")
    work.legend(frameon=False, fontsize=7, title="layers fused", title_fontsize=7)
    finish(work, "work, of that of whole maps", "tiles")
    made.savefig(path)


if __name__ == "__main__":
    main()
