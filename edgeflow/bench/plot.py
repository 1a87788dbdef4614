"""Plot a report: each row's speed-up over one core, by model."""

from __future__ import annotations

from pathlib import Path

from edgeflow.bench.results import Report


def draw(report: Report, path: Path) -> None:
    """Draw latency and stream speed-ups as bars; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    count = max(1, len(report.models))
    longest = max((len(model.rows) for model in report.models), default=1)
    figure, panels = pyplot.subplots(
        1, count, figsize=(5 * count, 1 + 0.35 * longest), squeeze=False, layout="constrained"
    )
    for panel, model in zip(panels[0], report.models, strict=False):
        rows = [row for row in model.rows if row.speedup is not None]
        heights = range(len(rows))
        panel.barh([y - 0.2 for y in heights], [row.speedup for row in rows], 0.4, label="one request")
        panel.barh([y + 0.2 for y in heights], [row.stream_speedup for row in rows], 0.4, label="stream")
        panel.set_yticks(list(heights), [row.row.name for row in rows])
        panel.invert_yaxis()
        panel.axvline(1.0, color="black", linewidth=0.8)
        panel.set_title(model.model)
    figure.supxlabel("times the faster of torch and onnxruntime, one core")
    panels[0][0].legend(loc="lower right")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
