"""The demo of one model: plan, deploy, measure a split against one device, compare answers, draw."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

import edgeflow as ef
from edgeflow.cluster import Cluster
from edgeflow.cluster.cluster import REFERENCE_FLOPS_PER_SECOND
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.compare import Difference, compare
from edgeflow.plan import Plan
from edgeflow.planner import plan as make_plan
from edgeflow.planner import strategies
from edgeflow.telemetry import Panel, TraceEvent, only_request, plot_panels, write_chrome_trace
from edgeflow.telemetry.progress import Progress
from edgeflow.telemetry.timing import Timing, time_in_turn
from edgeflow.units import format_seconds

if TYPE_CHECKING:
    from edgeflow.cost import CostModel

SPLIT: Final = "split"
ONE_DEVICE: Final = "one device"
PLAIN: Final = "plain PyTorch"


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """Prediction and measurement of one plan; times in seconds."""

    chosen: str
    num_devices: int
    predicted_latency_s: float
    measured: Timing
    difference: Difference


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results for one model.

    Attributes:
        contention: Kernel time while all workers compute / kernel time of a worker alone.
        explanation: Explanation of the strategy's plan.
        choice: Whether the strategy's plan is the split or one device.
        plans: By name: the best split, if there is one, and one device.
        plain_pytorch: The module itself, in one thread of this process.
        files: Name -> path: a timeline and traces of the split, or of one device if there is no split.
    """

    model: str
    strategy: str
    choice: str
    num_operators: int
    weight_bytes: int
    contention: float
    explanation: str
    plans: dict[str, PlanReport]
    plain_pytorch: Timing
    files: dict[str, str]

    @property
    def passed(self) -> bool:
        return all(plan.difference.passed for plan in self.plans.values())

    @property
    def speedup(self) -> float | None:
        """Median latency of one device / median latency of the split; None without a split."""
        if SPLIT not in self.plans:
            return None
        return self.plans[ONE_DEVICE].measured.median_s / self.plans[SPLIT].measured.median_s


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Results of the demo."""

    num_cores: int
    speeds: tuple[float, ...]
    models: tuple[ModelReport, ...]


def run_model(
    name: str,
    cluster: Cluster,
    workers: Sequence[str],
    *,
    strategy: str,
    requests: int,
    folder: Path,
    progress: Progress,
) -> ModelReport:
    """Run one model on the photographs; write a timeline plot and traces to ``folder``.

    Args:
        name: An image classifier of the zoo.
        workers: Addresses, in the order of the cluster's devices.
        requests: Number of timed requests of each rival.
        progress: Told of each step.
    """
    from edgeflow.openworld.images import photographs
    from edgeflow.testing import zoo

    with progress.waiting(f"{name}: building and capturing"):
        module, (example,), _ = zoo.build(name)
        pictures = [picture[None] for picture in photographs(example.shape[-1])]
        graph = ef.capture(module, (pictures[0],), name=name)
    with progress.bar(f"{name}: measuring operators") as move:
        # Measured on a whole core, which is speed 1.
        cost = msgspec.structs.replace(
            ef.calibrate(graph, cluster, (pictures[0],), on_operator=move),
            measured_flops_per_second=REFERENCE_FLOPS_PER_SECOND,
        )
    with progress.waiting(f"{name}: measuring contention between workers"):
        alone = make_plan(graph, Cluster.local([1.0]), strategy="single")
        contention = ef.measure_contention(alone, workers, (pictures[0],))
        cost = msgspec.structs.replace(cost, contention=contention)
    with progress.waiting(f"{name}: planning"):
        chosen = make_plan(graph, cluster, strategy=strategy, cost=cost)
        rivals = choose_rivals(chosen, cost)
    timings, differences, trace = _measure(
        module, rivals, workers, pictures, rounds=requests, label=f"{name}: requests", progress=progress
    )
    shown = next(iter(rivals))
    with progress.waiting(f"{name}: drawing"):
        files = _write(folder, name, rivals[shown], cost, trace, timings[shown])
    return ModelReport(
        model=name,
        strategy=strategy,
        contention=contention,
        choice=SPLIT if len(chosen.devices) > 1 else ONE_DEVICE,
        num_operators=len(graph.operators),
        weight_bytes=graph.weight_bytes,
        explanation=chosen.explain(),
        plans={
            label: PlanReport(
                chosen=plan.chosen,
                num_devices=len(plan.devices),
                predicted_latency_s=plan.predicted_latency_s,
                measured=timings[label],
                difference=differences[label],
            )
            for label, plan in rivals.items()
        },
        plain_pytorch=timings[PLAIN],
        files=files,
    )


def choose_rivals(chosen: Plan, cost: CostModel) -> dict[str, Plan]:
    """Return the best split, if there is one, and the best plan of one device; one of them is ``chosen``."""

    def make(strategy: str) -> Iterator[Plan]:
        try:
            yield make_plan(chosen.graph, chosen.cluster, strategy=strategy, cost=cost)
        except InfeasiblePlanError:
            return

    plans = [chosen, *(plan for strategy in strategies() for plan in make(strategy))]
    splits = [plan for plan in plans if len(plan.devices) > 1 and not plan.replicas]
    singles = [plan for plan in plans if len(plan.devices) == 1]
    rivals = {}
    if splits:
        rivals[SPLIT] = chosen if len(chosen.devices) > 1 else min(splits, key=_latency)
    if singles:
        rivals[ONE_DEVICE] = chosen if len(chosen.devices) == 1 else min(singles, key=_latency)
    return rivals


def _latency(plan: Plan) -> float:
    return plan.predicted_latency_s


def _measure(
    module: Any,
    rivals: Mapping[str, Plan],
    workers: Sequence[str],
    pictures: Sequence[Any],
    *,
    rounds: int,
    label: str,
    progress: Progress,
) -> tuple[Mapping[str, Timing], Mapping[str, Difference], tuple[TraceEvent, ...]]:
    """Time the plans and the module in turn; compare each plan's answers with the module's.

    Returns:
        Timings and differences by name, and the trace of the first rival's last timed request.
    """
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(_one_thread())
        with progress.waiting(f"{label}: loading weights"):
            sessions = {
                name: stack.enter_context(ef.deploy(plan, workers=workers)) for name, plan in rivals.items()
            }
        move = stack.enter_context(progress.bar(label))
        calls: dict[str, Callable[..., Any]] = {name: session.run for name, session in sessions.items()}
        calls[PLAIN] = module
        requests = {name: functools.partial(_next, call, cycle(pictures)) for name, call in calls.items()}
        timings = time_in_turn(requests, rounds=rounds, on_round=move)
        events = next(iter(sessions.values())).trace()
        expected = [module(picture) for picture in pictures]
        differences = {
            name: compare([session.run(picture) for picture in pictures], expected)
            for name, session in sessions.items()
        }
    return timings, differences, only_request(events, max(event.request for event in events))


def _next(call: Callable[..., Any], pictures: Iterator[Any]) -> Any:
    return call(next(pictures))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, as every worker has; more would compete with the workers for cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(
    folder: Path, name: str, plan: Plan, cost: CostModel, measured: Sequence[TraceEvent], timing: Timing
) -> dict[str, str]:
    """Write a timeline and two traces; return their paths by name."""
    predicted = ef.predict(plan, cost).events
    devices = [device.name for device in plan.cluster.devices]
    files = {
        "timeline": folder / f"{name}-timeline.png",
        "measured trace": folder / f"{name}-measured.json",
        "predicted trace": folder / f"{name}-predicted.json",
    }
    plot_panels(
        files["timeline"],
        [
            Panel(f"predicted: {format_seconds(plan.predicted_latency_s)}", tuple(predicted)),
            Panel(f"measured, the last request; all: {timing}", tuple(measured)),
        ],
        devices,
        f"{name}, {plan.chosen}: one request",
        stage_kinds={stage.name: stage.kind for stage in plan.stages},
    )
    write_chrome_trace(files["measured trace"], measured, devices)
    write_chrome_trace(files["predicted trace"], predicted, devices)
    return {what: str(path) for what, path in files.items()}
