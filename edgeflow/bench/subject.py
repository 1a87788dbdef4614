"""What a row's processes need: the model by name, its graph and ONNX file, the plan, the cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgeflow.bench.rows import Row
from edgeflow.testing import zoo


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One row of one model, as its processes are told.

    Attributes:
        graph, onnx, plan: Files.
        cores: Of each process, or of each worker.
        port: A free one, for processes that meet.
        stream: Requests of a stream.
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
