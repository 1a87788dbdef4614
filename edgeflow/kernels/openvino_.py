"""A back end that runs the same ONNX graphs with OpenVINO, for processors on which it is faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from onnx import TensorProto

from edgeflow.graph.ir import NUMPY_DTYPES, Array
from edgeflow.kernels.base import Executor, Hashes, Weights
from edgeflow.kernels.onnx_.graph import Graph
from edgeflow.kernels.onnx_.runnable import OnnxRunnable, prepare
from edgeflow.kernels.onnx_.values import CannotEmit
from edgeflow.plan.program import Program


class OpenVinoExecutor:
    """Runs kernels with OpenVINO on the CPU, floats in the program's own dtypes.

    Args:
        threads: Number of threads that one operator may use; None: OpenVINO's default, all cores.
        fallback: Runs kernels that ONNX cannot express or OpenVINO cannot run; None refuses programs with
            such a kernel.
    """

    def __init__(self, *, threads: int | None = None, fallback: Executor | None = None) -> None:
        self._core = ov.Core()
        # On processors with 16-bit units OpenVINO computes float32 in 16 bits unless that is forbidden.
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = str(threads)
        self._fallback = fallback

    @property
    def name(self) -> str:
        return "openvino"

    def prepare(self, program: Program, weights: Weights, hashes: Hashes | None = None) -> OnnxRunnable:
        return prepare(program, weights, self._compile, fallback=self._fallback, name=self.name)

    def _compile(self, graph: Graph) -> _Model:
        model = graph.model()
        for item in model.graph.initializer:
            array = graph.weights.get(item.name)
            if array is not None:
                # OpenVINO accepts weights only inside the model.
                item.ClearField("external_data")
                item.data_location = TensorProto.DEFAULT
                item.raw_data = np.asarray(array, order="C").tobytes()
        try:
            compiled = self._core.compile_model(
                self._core.read_model(model.SerializeToString()), "CPU", self._settings
            )
        except RuntimeError as error:
            raise CannotEmit(str(error).strip().splitlines()[-1]) from error
        return _Model(graph, compiled)


class _Model:
    """A compiled model."""

    def __init__(self, graph: Graph, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._outputs = graph.outputs
        if any(value.dtype == "bfloat16" for value in (*graph.inputs, *graph.outputs)):
            raise CannotEmit("numpy arrays of bfloat16")

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        for index, array in enumerate(arrays):
            self._request.set_input_tensor(index, ov.Tensor(np.asarray(array, order="C"), shared_memory=True))
        self._request.infer()
        made = []
        for index, value in enumerate(self._outputs):
            # A copy: the request's own memory is written again by the next run.
            array = np.array(self._request.get_output_tensor(index).data)
            made.append(array.astype(NUMPY_DTYPES[value.dtype], copy=False).reshape(value.shape))
        return made
