"""Plot traces: one row per device, coloured by the kind of stage, over milliseconds.

Matplotlib is imported when a plot is drawn, so that workers never need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edgeflow.errors import ConfigError
from edgeflow.telemetry.summary import summarise
from edgeflow.telemetry.trace import TraceEvent, rank_name

#: Colours of kinds of stages; other kinds take colours from `_SPARE`, in order of appearance.
STAGE_COLOURS: Final[Mapping[str, str]] = {
    "rows": "#3b75af",
    "tensor": "#ef8636",
    "single": "#519e3e",
    "replicate": "#d684bd",
    "reduce": "#c53a32",
    "compute": "#3b75af",
}
#: Labels in the legend for kinds whose names are too short.
_LABELS: Final[Mapping[str, str]] = {
    "rows": "rows or tokens",
    "tensor": "heads, channels, columns",
    "single": "one device",
}
_SPARE: Final = ("#39a7a7", "#84584e", "#b6bd3a", "#5b5f97", "#e0a526")
_ASSEMBLE: Final = "#5f6368"
_SEND: Final = "#7d848c"
_RECEIVE: Final = "#d4d8dd"

_COMPUTE_HEIGHT, _NETWORK_HEIGHT = 0.50, 0.16
#: Events of one stage that are closer than this share of the plot's width are drawn as one bar.
_MERGE_SHARE: Final = 0.001
#: About how many letters fit across the plot.
_LETTERS_ACROSS: Final = 125


class Panel(msgspec.Struct, frozen=True):
    """One of several timelines above each other, on a common time axis."""

    title: str
    events: tuple[TraceEvent, ...]


class Bar(NamedTuple):
    """Consecutive work of one stage and one request on one rank."""

    start_s: float
    stop_s: float
    stage: str
    request: int = 0


def plot_timeline(
    path: str | Path,
    events: Iterable[TraceEvent],
    rank_names: Mapping[int, str] | Sequence[str] = (),
    title: str = "",
    *,
    stage_kinds: Mapping[str, str] | None = None,
) -> None:
    """Draw one trace; see `plot_panels`."""
    plot_panels(path, [Panel("", tuple(events))], rank_names, title, stage_kinds=stage_kinds)


def plot_panels(
    path: str | Path,
    panels: Sequence[Panel],
    rank_names: Mapping[int, str] | Sequence[str] = (),
    title: str = "",
    *,
    stage_kinds: Mapping[str, str] | None = None,
) -> None:
    """Draw traces above each other on one time axis, for instance predicted above measured.

    Each device has thick bars for computation, and thin bars below them for sends, receives and copies.

    Args:
        path: The file to write; its suffix decides the format (``.png``, ``.svg``, ``.pdf``).
        panels: From top to bottom; each starts at its own first event.
        rank_names: Names of the devices, by rank or in rank order.
        title: Title of the whole plot.
        stage_kinds: Name of a stage -> its kind, which decides the colour; other stages have the kind
            ``compute``.

    Raises:
        ConfigError: If matplotlib is not installed, or no panel has an event.
    """
    if not any(panel.events for panel in panels):
        raise ConfigError("a timeline needs at least one event, got none")
    figure_class = _import_figure()
    kinds = stage_kinds or {}
    ranks = sorted({event.rank for panel in panels for event in panel.events})
    colours = _colours(panels, kinds)
    span_s = max(_stop(panel.events) - _start(panel.events) for panel in panels if panel.events)
    figure = figure_class(
        figsize=(12, 1.5 + len(panels) * (0.55 + 0.62 * len(ranks))), dpi=150, layout="constrained"
    )
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        _draw_panel(ax, panel, ranks, rank_names, kinds, colours, span_s)
    axes[-1].set_xlabel("time (ms)")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    _legend(figure, panels, colours)
    figure.savefig(Path(path))


def _draw_panel(
    ax: Any,
    panel: Panel,
    ranks: Sequence[int],
    rank_names: Mapping[int, str] | Sequence[str],
    kinds: Mapping[str, str],
    colours: Mapping[str, str],
    span_s: float,
) -> None:
    origin = _start(panel.events)
    summaries = summarise(panel.events)
    for row, rank in enumerate(ranks):
        mine = [event for event in panel.events if event.rank == rank]
        for bar in merged((e for e in mine if e.kind == "compute"), gap_s=_MERGE_SHARE * span_s):
            _draw_bar(ax, bar, row, colours[kinds.get(bar.stage, "compute")], origin, span_s)
        _draw_thin(ax, mine, "receive", row, _RECEIVE, origin)
        _draw_thin(ax, mine, "send", row, _SEND, origin)
        _draw_thin(ax, mine, "assemble", row, _ASSEMBLE, origin)
        if rank in summaries and rank >= 0:
            text = f"{summaries[rank].busy_share:.0%} busy"
            ax.text(
                1.005,
                row,
                text,
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=8.5,
                color="#444444",
            )
    ax.set_yticks(range(len(ranks)), [rank_name(rank, rank_names) for rank in ranks])
    ax.set_ylim(len(ranks) - 0.45, -0.55)
    ax.set_xlim(0, span_s * 1e3 * 1.01)
    ax.set_title(panel.title, loc="left", fontsize=10.5, color="#222222")
    ax.grid(axis="x", color="#e6e8eb", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    if panel.events:
        ax.axvline(
            (_stop(panel.events) - origin) * 1e3, color="#444444", linewidth=0.9, linestyle=(0, (4, 3))
        )


def _draw_bar(ax: Any, bar: Bar, row: int, colour: str, origin: float, span_s: float) -> None:
    start_ms, width_ms = (bar.start_s - origin) * 1e3, (bar.stop_s - bar.start_s) * 1e3
    box = (row - _COMPUTE_HEIGHT / 2 - 0.06, _COMPUTE_HEIGHT)
    ax.broken_barh([(start_ms, width_ms)], box, facecolor=colour, edgecolor="white", linewidth=0.4)
    room = int(_LETTERS_ACROSS * width_ms / (span_s * 1e3))
    if room >= min(4, len(bar.stage) + 1):
        label = bar.stage if len(bar.stage) <= room else bar.stage[: room - 1] + "…"
        ax.text(
            start_ms + width_ms / 2, row - 0.06, label, ha="center", va="center", fontsize=7.5, color="white"
        )


def _draw_thin(
    ax: Any, events: Iterable[TraceEvent], kind: str, row: int, colour: str, origin: float
) -> None:
    spans = [((e.start_s - origin) * 1e3, e.duration_s * 1e3) for e in events if e.kind == kind]
    if spans:
        # The outline keeps transfers of a few microseconds visible.
        box = (row + _COMPUTE_HEIGHT / 2 - 0.02, _NETWORK_HEIGHT)
        ax.broken_barh(spans, box, facecolor=colour, edgecolor=colour, linewidth=0.3)


def merged(events: Iterable[TraceEvent], *, gap_s: float) -> tuple[Bar, ...]:
    """Join consecutive events of one stage and one request into bars.

    Args:
        events: Events of one rank, in any order.
        gap_s: Longest gap between joined events.
    """
    bars: list[Bar] = []
    for event in sorted(events, key=lambda event: (event.start_s, event.stop_s)):
        bar = Bar(event.start_s, event.stop_s, event.stage, event.request)
        last = bars[-1] if bars else None
        if last and last[2:] == bar[2:] and bar.start_s - last.stop_s <= gap_s:
            bars[-1] = last._replace(stop_s=max(last.stop_s, bar.stop_s))
        else:
            bars.append(bar)
    return tuple(bars)


def _colours(panels: Sequence[Panel], kinds: Mapping[str, str]) -> Mapping[str, str]:
    """Return kind of stage -> colour, for the kinds that occur, in order of first appearance."""
    events = sorted(
        (event for panel in panels for event in panel.events if event.kind == "compute"),
        key=lambda event: event.start_s,
    )
    found = dict.fromkeys(kinds.get(event.stage, "compute") for event in events)
    spare = [kind for kind in found if kind not in STAGE_COLOURS]
    extra = {kind: _SPARE[index % len(_SPARE)] for index, kind in enumerate(spare)}
    return {kind: STAGE_COLOURS.get(kind) or extra[kind] for kind in found}


def _legend(figure: Any, panels: Sequence[Panel], colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    occurring = {event.kind for panel in panels for event in panel.events}
    entries = [(_LABELS.get(kind, kind), colour) for kind, colour in colours.items()]
    entries += [
        (label, colour)
        for kind, label, colour in (
            ("assemble", "copy and sum", _ASSEMBLE),
            ("send", "send", _SEND),
            ("receive", "receive, waiting", _RECEIVE),
        )
        if kind in occurring
    ]
    handles = [Patch(facecolor=colour, label=label) for label, colour in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, frameon=False, fontsize=9)


def _start(events: Iterable[TraceEvent]) -> float:
    return min((event.start_s for event in events), default=0.0)


def _stop(events: Iterable[TraceEvent]) -> float:
    return max((event.stop_s for event in events), default=0.0)


def _import_figure() -> Any:
    """Return matplotlib's `Figure`; without pyplot there is no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "drawing a timeline needs matplotlib: pip install 'edgeflow-inference[demo]'"
        ) from error
    return Figure
