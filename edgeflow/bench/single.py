"""Rows of one process: plain torch, and onnxruntime with the whole model."""

from __future__ import annotations

from typing import Any

from edgeflow.bench.subject import Job, inputs_of
from edgeflow.errors import ConfigError
from edgeflow.testing import zoo


class Torch:
    """Eager torch in inference mode."""

    def __init__(self, job: Job, rank: int) -> None:
        self._example = zoo.build(job.model)

    def request(self) -> Any:
        import torch

        with torch.inference_mode():
            return self._example.module(*self._example.args, **self._example.kwargs)

    def stream(self, count: int) -> None:
        for _ in range(count):
            self.request()

    def close(self) -> None:
        """Nothing is held."""


class OnnxRuntime:
    """The model as torch exports it, with all of onnxruntime's optimisations."""

    def __init__(self, job: Job, rank: int) -> None:
        import onnxruntime

        if not job.onnx.exists():
            raise ConfigError(f"torch.onnx.export does not export {job.model}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.row.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin after a request would use the core of the next row.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(job.onnx, options, providers=["CPUExecutionProvider"])
        values = inputs_of(zoo.build(job.model))
        names = [item.name for item in self._session.get_inputs()]
        if len(names) != len(values):
            raise ConfigError(f"the exported model takes {len(names)} inputs, the module {len(values)}")
        self._feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}

    def request(self) -> Any:
        return self._session.run(None, self._feed)

    def stream(self, count: int) -> None:
        for _ in range(count):
            self.request()

    def close(self) -> None:
        """Nothing is held."""
