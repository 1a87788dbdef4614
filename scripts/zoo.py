"""Write ``docs/zoo.md``: how much of each reference model can be split, and the error of split answers.

    python scripts/zoo.py [--processes N] [--only NAME ...]

Every model is captured and planned by `auto`, `coedge` and `megatron` for 1, 2, 3 and 5 unequal devices;
every plan is run in this process, and its answer compared with the module's own. It takes a while.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

import edgeflow as ef
from edgeflow.cluster import Device, Link
from edgeflow.cost import CostModel
from edgeflow.planner.coverage import coverage
from edgeflow.testing import zoo
from edgeflow.units import format_bytes, format_flops

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "zoo.md"
STRATEGIES = ("auto", "coedge", "megatron")
SPEEDS = (1.0, 0.7, 0.4, 0.25, 0.6)
COUNTS = (1, 2, 3, 5)

_HEAD = """# The zoo

Models that `zoo.build(name)` makes, and that commands take by name. Weights are random; those named `hf-*`
are architectures of the `transformers` package, those that end in `-small` the same with few and narrow
layers. Written by `make zoo`.

* *split*: the share of the FLOPs in operators that can be split along something;
* *along an input*: the share that a split of one dim of an input (rows, tokens ...) reaches;
* *tensor*: the share that heads, hidden columns and channels reach;
* *error*: the largest difference from the module's own answer, relative to the answer's largest value, of
  plans by {strategies} on {counts} devices of speeds {speeds}. The devices are slow and the network costs
  next to nothing, so that splits pay; in brackets how many of these {total} plans use more than one device.

| model | operators | FLOPs | weights | split | along an input | tensor | error |
|---|---:|---:|---:|---:|---:|---:|---|
"""


class Row(NamedTuple):
    """One model."""

    name: str
    cells: tuple[str, ...]
    error: float
    seconds: float


def measure(name: str) -> Row:
    """Capture one model, and plan and run it with every strategy."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    example = zoo.build(name)
    graph = ef.capture(example.module, example.args, kwargs=example.kwargs, name=name)
    with torch.no_grad():
        expected = list(_tensors(example.module(*example.args, **example.kwargs)))
    found = coverage(graph)
    worst, num_split = 0.0, 0
    for count in COUNTS:
        cluster = _cluster(count)
        cost = CostModel(cluster=cluster, message_overhead_s=0.0)
        for strategy in STRATEGIES:
            plan = ef.plan(graph, cluster, strategy=strategy, cost=cost)
            answer = list(_tensors(ef.execute(plan, example.args, example.kwargs)))
            worst = max(worst, _difference(answer, expected))
            num_split += len(plan.devices) > 1
    inputs = max((reach.flops for reach in found.reaches if reach.kind == "rows"), default=0)
    tensor = max((reach.flops for reach in found.reaches if reach.kind == "tensor"), default=0)
    cells = (
        str(len(graph.operators)),
        format_flops(found.total_flops),
        format_bytes(graph.weight_bytes),
        *(
            f"{100 * flops / max(1, found.total_flops):.1f} %"
            for flops in (found.split_flops, inputs, tensor)
        ),
        f"{worst:.1e} ({num_split})",
    )
    return Row(name, cells, worst, time.perf_counter() - start)


def _cluster(count: int) -> ef.Cluster:
    devices = tuple(
        Device(name=f"device{rank}", flops_per_second=1e9 * speed, memory_bytes=1 << 36, overhead_s=0.0)
        for rank, speed in enumerate(SPEEDS[:count])
    )
    return ef.Cluster(devices=devices, network=Link(bandwidth_bytes_per_s=1e10, latency_s=1e-5))


def _tensors(answer: Any) -> Iterator[torch.Tensor]:
    if hasattr(answer, "items"):
        for item in answer.values():
            yield from _tensors(item)
    else:
        yield from (leaf for leaf in pytree.tree_leaves(answer) if isinstance(leaf, torch.Tensor))


def _difference(answer: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of all tensors, each relative to its largest value."""
    if len(answer) != len(expected):
        raise AssertionError(f"{len(answer)} tensors came back, not {len(expected)}")
    return max(
        float((mine.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1e-30))
        for mine, theirs in zip(answer, expected, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(zoo.ZOO))
    arguments = parser.parse_args()
    rows: dict[str, Row] = {}
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(measure, arguments.only):
            rows[row.name] = row
            print(
                f"{len(rows)}/{len(arguments.only)} {row.name}: {row.error:.1e}, {row.seconds:.0f} s",
                flush=True,
            )
    total = len(STRATEGIES) * len(COUNTS)
    head = _HEAD.format(
        strategies=", ".join(f"`{name}`" for name in STRATEGIES),
        counts=", ".join(map(str, COUNTS)),
        speeds=", ".join(map(str, SPEEDS)),
        total=total,
    )
    lines = [f"| `{name}` | {' | '.join(rows[name].cells)} |" for name in arguments.only]
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(head + "\n".join(lines) + "\n")
    print(f"written to {DOCUMENT}")


if __name__ == "__main__":
    main()
