"""How many bytes do splits of the same convolutions move, and how much work do they repeat? See README.md.

python -m simulations.traffic [--output FOLDER] [--small]
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from edgeflow.simulator.sweep_plot import figure
from simulations.command import Row, distinct, finish, parser, where, write
from simulations.traffic.channels import NETWORKS, SCRIPT_BYTES, bytes_by_output, least_bytes
from simulations.traffic.strips import PATTERNS, TABLE, repeated, sent_bytes

DEVICES = (2, 4, 6, 8)
_BY_OUTPUT, _LEAST = "channels, all by output", "channels, least bytes"


def main() -> None:
    options = parser(__doc__, Path(__file__).parent).parse_args()
    devices = DEVICES[:1] if options.small else DEVICES
    rows = strips(devices) + channels(NETWORKS[-1:] if options.small else NETWORKS, devices)
    write(options.output / "results.csv", rows)
    draw(rows, options.output / "traffic.png")


def strips(devices: tuple[int, ...]) -> list[Row]:
    """Return a row for each pattern and number of devices: VGG-16 in strips, counted in programs."""
    rows = []
    for (pattern, make), count in product(PATTERNS.items(), devices):
        plan = make(count)
        table_megabytes, table_repeated = TABLE[pattern][count]
        rows.append(
            _row(
                "vgg16",
                pattern,
                count,
                sum(sent_bytes(plan).values()),
                expected_megabytes=table_megabytes,
                repeated=round(repeated(plan), 4),
                expected_repeated=table_repeated,
            )
        )
    return rows


def channels(networks: tuple[str, ...], devices: tuple[int, ...]) -> list[Row]:
    """Return two rows for each network and number of devices: channel splits, by the objective."""
    rows = []
    for network, count in product(networks, devices):
        script = SCRIPT_BYTES.get((network, count))
        rows.append(_row(network, _BY_OUTPUT, count, float(bytes_by_output(network, count))))
        rows.append(
            _row(
                network,
                _LEAST,
                count,
                float(least_bytes(network, count)),
                expected_megabytes=script / 1e6 if script else "",
            )
        )
    return rows


def _row(
    network: str,
    pattern: str,
    devices: int,
    num_bytes: float,
    *,
    expected_megabytes: float | str = "",
    repeated: float | str = "",
    expected_repeated: float | str = "",
) -> Row:
    return {
        "network": network,
        "pattern": pattern,
        "devices": devices,
        "bytes": round(num_bytes, 2),
        "expected_megabytes": expected_megabytes,
        "repeated_work": repeated,
        "expected_repeated_work": expected_repeated,
    }


def draw(rows: list[Row], path: Path) -> None:
    """Bytes and repeated work of the patterns for VGG-16; bytes of channel splits of each network."""
    made = figure(11, 3.6)
    traffic, work, split = made.subplots(1, 3)
    networks = distinct(rows, "network")
    for index, pattern in enumerate(PATTERNS):
        mine = where(rows, pattern=pattern)
        counts = [row["devices"] for row in mine]
        look = {"marker": "o", "markersize": 3, "color": f"C{index}"}
        traffic.plot(counts, [row["bytes"] / 1e6 for row in mine], label=pattern, **look)
        traffic.plot(counts, [row["expected_megabytes"] for row in mine], "x", color=f"C{index}")
        work.plot(counts, [1 + row["repeated_work"] for row in mine], label=pattern, **look)
        work.plot(counts, [1 + row["expected_repeated_work"] for row in mine], "x", color=f"C{index}")
    for index, (network, pattern) in enumerate(product(networks, (_BY_OUTPUT, _LEAST))):
        mine = where(rows, network=network, pattern=pattern)
        counts = [row["devices"] for row in mine]
        split.plot(
            counts,
            [row["bytes"] / 1e6 for row in mine],
            "--" if pattern == _BY_OUTPUT else "-",
            marker="o",
            markersize=3,
            color=f"C{4 + index // 2}",
            label=f"{network}, {pattern.removeprefix('channels, ')}",
        )
        known = [(row["devices"], row["expected_megabytes"]) for row in mine if row["expected_megabytes"]]
        split.plot([count for count, _ in known], [size for _, size in known], "kx")
    for ax in (traffic, split):
        ax.set_yscale("log")
    for ax in (traffic, work, split):
        ax.set_xticks(distinct(rows, "devices"))
        ax.legend(frameon=False, fontsize=6)
    finish(traffic, "VGG-16 in strips: traffic (x: the table)", "devices", "1e6 bytes")
    finish(work, "VGG-16 in strips: work, of one device's", "devices")
    finish(split, "channel splits: traffic (x: the script)", "devices", "1e6 bytes")
    made.savefig(path)


if __name__ == "__main__":
    main()
