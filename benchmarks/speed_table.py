"""Print the README's table of speeds from a report of `edgeflow bench --output`.

python benchmarks/speed_table.py benchmarks/results/speed.json
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edgeflow.bench.results import Report, RowResult

#: Column -> row of the benchmark; the fixed strategy of a model ends in its name.
_COLUMNS = {
    "two workers, `auto`": "equal-2",
    "two workers, fixed": "equal-2-",
    "1 : 0.5": "1:0.5",
    "1 Gbit/s": "equal-2@1gbit",
    "two threads": "onnxruntime-2-threads",
    "gloo by hand": "gloo-megatron",
    "DTensor": "gloo-dtensor",
    "pipelining": "gloo-pipelining",
    "Ray": "ray",
}
_STREAM = "equal-2-throughput"


def table(report: Report) -> str:
    """Return ratios to the fastest device alone, latency unless said otherwise; no column without numbers."""
    lines = [["model", "one core", *_COLUMNS, "stream, two workers"]]
    for model in report.models:
        rows = {row.row.name: row for row in model.rows}
        fixed = next(name for name in rows if name.startswith("equal-2-") and name != _STREAM)
        alone = [row.latency.median_s for name in ("torch", "onnxruntime") if (row := rows[name]).latency]
        cells = [model.model, f"{min(alone) * 1e3:.1f} ms"]
        cells += [_ratio(rows.get(fixed if name == "equal-2-" else name)) for name in _COLUMNS.values()]
        lines.append([*cells, _ratio(rows.get(_STREAM), stream=True)])
    columns = [column for column in zip(*lines, strict=True) if any(cell != "-" for cell in column[1:])]
    head, *rest = zip(*columns, strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))


def _ratio(row: RowResult | None, *, stream: bool = False) -> str:
    ratio = None if row is None else row.stream_speedup if stream else row.speedup
    return "-" if ratio is None else f"{ratio:.2f}x"


if __name__ == "__main__":
    print(table(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Report)))
