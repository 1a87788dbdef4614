"""What the demo does for one model: plan, deploy, measure a split against one device, compare, draw."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edgeflow.cli.screen import bar, waiting
from edgeflow.cluster import Cluster
from edgeflow.cluster.cluster import REFERENCE_FLOPS_PER_SECOND
from edgeflow.errors import ConfigError, InfeasiblePlanError
from edgeflow.graph.compare import Difference, compare
from edgeflow.plan import Plan
from edgeflow.telemetry import Panel, TraceEvent, only_request, plot_panels, write_chrome_trace
from edgeflow.telemetry.timing import Timing, time_in_turn
from edgeflow.units import format_seconds

if TYPE_CHECKING:
    from edgeflow.cost import CostModel

#: Between processes of one machine, over gRPC from Python: round numbers of several measurements.
_BANDWIDTH: Final = "4 Gbit/s"
_LATENCY: Final = "0.8 ms"

SPLIT: Final = "split"
ONE_DEVICE: Final = "one device"
PLAIN: Final = "plain PyTorch"


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted and seen of one plan; times in seconds."""

    chosen: str
    num_devices: int
    predicted_latency_s: float
    measured: Timing
    difference: Difference


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one model.

    Attributes:
        contention: How many times as long kernels take workers while all of them compute.
        explanation: Of the plan that the strategy chose.
        choice: Whether that plan is the split or one device.
        plans: By name: the best split there is, if there is one, and one device.
        plain_pytorch: The module itself, in one thread of this process.
        files: Name -> path: a timeline and traces of the split, or of one device where there is none.
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
        """How many times as fast as one device the split is, by medians."""
        if SPLIT not in self.plans:
            return None
        return self.plans[ONE_DEVICE].measured.median_s / self.plans[SPLIT].measured.median_s


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole demo."""

    num_cores: int
    speeds: tuple[float, ...]
    models: tuple[ModelReport, ...]


def demo_cluster(speeds: Sequence[float]) -> Cluster:
    """Return devices that are worker processes here, each held to a share of a core.

    Raises:
        ConfigError: If a share is not above 0 and at most 1.
    """
    for speed in speeds:
        if not 0 < speed <= 1:
            raise ConfigError(f"--speeds: a local worker takes a share of a core, 0 to 1; got {speed:g}")
    return Cluster.local(speeds, bandwidth=_BANDWIDTH, latency=_LATENCY, name="demo")


@contextmanager
def local_workers(speeds: Sequence[float]) -> Iterator[list[str]]:
    """Start one worker process a device; yield their addresses; stop them at the end."""
    from edgeflow.coordinator.processes import LocalWorkers
    from edgeflow.kernels import resolve_executor

    with waiting(f"starting {len(speeds)} workers"):
        workers = LocalWorkers(dict(enumerate(speeds)), threads=1, executor=resolve_executor("auto"))
    try:
        yield [workers.addresses[rank] for rank in range(len(speeds))]
    finally:
        workers.close()


def run_model(
    name: str, cluster: Cluster, workers: Sequence[str], *, strategy: str, requests: int, folder: Path
) -> ModelReport:
    """Run one model on the photographs, and write its picture and traces to ``folder``.

    Args:
        name: In the zoo; an image classifier.
        workers: Addresses, in the order of the cluster's devices.
        requests: How many of each rival are timed.
    """
    import edgeflow as ef
    from edgeflow.openworld.images import photographs
    from edgeflow.testing import zoo

    with waiting(f"{name}: building and capturing"):
        module, (example,), _ = zoo.build(name)
        pictures = [picture[None] for picture in photographs(example.shape[-1])]
        graph = ef.capture(module, (pictures[0],), name=name)
    with bar(f"{name}: measuring operators") as move:
        # Measured on a whole core, which is speed 1.
        cost = msgspec.structs.replace(
            ef.calibrate(graph, cluster, (pictures[0],), on_operator=move),
            measured_flops_per_second=REFERENCE_FLOPS_PER_SECOND,
        )
    with waiting(f"{name}: measuring how much workers are in each other's way"):
        alone = ef.plan(graph, Cluster.local([1.0]), strategy="single")
        contention = ef.measure_contention(alone, workers, (pictures[0],))
        cost = msgspec.structs.replace(cost, contention=contention)
    with waiting(f"{name}: planning"):
        chosen = ef.plan(graph, cluster, strategy=strategy, cost=cost)
        rivals = choose_rivals(chosen, cost)
    timings, differences, trace = _measure(
        module, rivals, workers, pictures, rounds=requests, label=f"{name}: requests"
    )
    shown = next(iter(rivals))
    with waiting(f"{name}: drawing"):
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
    """Return a split, if any strategy finds one, and one device; ``chosen`` is one of the two."""
    import edgeflow as ef

    def make(strategy: str) -> Iterator[Plan]:
        try:
            yield ef.plan(chosen.graph, chosen.cluster, strategy=strategy, cost=cost)
        except InfeasiblePlanError:
            return

    plans = [chosen, *(plan for strategy in ef.strategies() for plan in make(strategy))]
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
) -> tuple[Mapping[str, Timing], Mapping[str, Difference], tuple[TraceEvent, ...]]:
    """Time the plans and the module in turn; compare every plan's answer to every picture.

    Returns:
        Timings and differences by name, and the trace of the first rival's last timed request.
    """
    import torch

    import edgeflow as ef

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(_one_thread())
        with waiting(f"{label}: loading weights"):
            sessions = {
                name: stack.enter_context(ef.deploy(plan, workers=workers)) for name, plan in rivals.items()
            }
        move = stack.enter_context(bar(label))
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
    """Give torch one thread here, as every worker has; more would fight with the workers for the cores."""
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
    import edgeflow as ef

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
