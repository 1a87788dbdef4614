"""The job of a row's processes: the model, its graph and ONNX file, the plan, the cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgeflow.bench.rows import Row
from edgeflow.testing import zoo


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One row of one model, as sent to its processes.

    Attributes:
        graph, onnx, plan: Files.
        cores: Core of each process, or of each worker.
        port: A free port for the rendezvous of processes.
        stream: Number of requests in a stream.
        folder: For logs and caches.
    """

    row: Row
    model: str
    graph: Path
    onnx: Path
    plan: Path
    cores: tuple[int, ...]
    port: int
    stream: int
    executor: str
    folder: Path


def inputs_of(example: zoo.Example) -> tuple[Any, ...]:
    return (*example.args, *example.kwargs.values())
