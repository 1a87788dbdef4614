"""Run one ONNX model with onnxruntime, without copying contiguous weights, inputs or outputs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.values import ONNX_DTYPES, CannotEmit

#: Errors that onnxruntime raises for a model that it cannot run.
_REFUSALS: Final = (errors.NotImplemented, errors.InvalidGraph, errors.Fail)

#: Optimisations that cost time: a fused SkipLayerNormalization took four times as long as the sum and the
#: norm that it replaces (onnxruntime 1.32, BERT-base of 128 tokens, one thread of a Zen core).
_DISABLED: Final = ("SkipLayerNormFusion",)


class Session:
    """A model that is ready to run.

    Args:
        threads: Number of threads that one operator may use; None: onnxruntime's default, all cores.

    Raises:
        CannotEmit: If onnxruntime cannot run the model, for example lacks an operator for a dtype.
    """

    def __init__(self, graph: Graph, *, threads: int | None, model: bytes | None = None) -> None:
        self.inputs = graph.inputs
        self.outputs = graph.outputs
        options = _options(threads)
        # onnxruntime reads the weights from these arrays, so they must live as long as the session.
        self._weights = {name: np.asarray(array, order="C") for name, array in graph.weights.items()}
        if self._weights:
            values = [_shared(array) for array in self._weights.values()]
            options.add_external_initializers(list(self._weights), values)
        try:
            self._session = ort.InferenceSession(
                graph.model().SerializeToString() if model is None else model,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(_DISABLED),
            )
        except _REFUSALS as error:
            raise CannotEmit(str(error)) from error

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run on inputs in the model's order; the outputs are new arrays."""
        binding = self._session.io_binding()
        # Copies of inputs that were not contiguous must live until the run is over.
        held = [np.asarray(array, order="C") for array in arrays]
        made = [np.empty(value.shape, NUMPY_DTYPES[value.dtype]) for value in self.outputs]
        for value, array in zip(self.inputs, held, strict=True):
            binding.bind_input(value.name, "cpu", 0, ONNX_DTYPES[value.dtype], value.shape, _address(array))
        for value, array in zip(self.outputs, made, strict=True):
            binding.bind_output(value.name, "cpu", 0, ONNX_DTYPES[value.dtype], value.shape, _address(array))
        self._session.run_with_iobinding(binding)
        return made


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _shared(array: Array) -> Any:
    """Return an array as an onnxruntime value that shares its memory."""
    if array.dtype == NUMPY_DTYPES["bfloat16"]:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), ONNX_DTYPES["bfloat16"])
    return ort.OrtValue.ortvalue_from_numpy(array)


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options


class SessionCache:
    """Sessions by the content of their model and weights; holds weak references only.

    A new plan leaves many stages unchanged: their sessions are found here while the previous plan still
    holds them.
    """

    def __init__(self, *, threads: int | None) -> None:
        self._threads = threads
        self._sessions: WeakValueDictionary[bytes, Session] = WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, graph: Graph, hashes: Mapping[str, str] | None) -> Session:
        """Return a session for a graph.

        Args:
            hashes: Content hashes of the weights that it reads, by name; None if they are not known: a new
                session is then created.
        """
        model = graph.model().SerializeToString()
        if hashes is None:
            return Session(graph, threads=self._threads, model=model)
        key = _key(model, hashes)
        with self._lock:
            found = self._sessions.get(key)
        if found is None:
            found = Session(graph, threads=self._threads, model=model)
            with self._lock:
                self._sessions[key] = found
        return found


def _key(model: bytes, hashes: Mapping[str, str]) -> bytes:
    digest = hashlib.blake2b(model, digest_size=32)
    for name in sorted(hashes):
        digest.update(f"{name}={hashes[name]};".encode())
    return digest.digest()
