"""Serve a model over gRPC: ``inference.GRPCInferenceService``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from edgeflow._proto import inference_pb2 as pb
from edgeflow._proto import inference_pb2_grpc
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.ir import Array
from edgeflow.net.statuses import status_of
from edgeflow.serving.http import EXTENSIONS, PLATFORM
from edgeflow.serving.messages import check_names, choose_outputs, timeout_of
from edgeflow.serving.service import ModelService, sentence
from edgeflow.serving.tensors import (
    TensorInfo,
    check_input,
    from_raw,
    from_values,
    to_raw,
    to_values,
)

#: Datatype -> field that holds its values; FP16 and BF16 have none, and travel as raw bytes only.
_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


class InferenceServicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Implements the service for one model."""

    def __init__(self, service: ModelService, *, server_version: str) -> None:
        self._service = service
        self._server_version = server_version

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._service.is_ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        is_here = self._service.is_called(request.name, request.version)
        return pb.ModelReadyResponse(ready=is_here and self._service.is_ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(name=PLATFORM, version=self._server_version, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        await self._check_model(request.name, request.version, context)
        service = self._service
        return pb.ModelMetadataResponse(
            name=service.name,
            versions=[service.version],
            platform=PLATFORM,
            inputs=_described(service.inputs),
            outputs=_described(service.outputs),
        )

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._check_model(request.model_name, request.model_version, context)
        service = self._service
        try:
            inputs = read_inputs(request, service.inputs)
            outputs = choose_outputs([item.name for item in request.outputs], service.outputs)
            arrays = await service.infer(inputs, timeout_s=_timeout_s(request, context), protocol="grpc")
            return _answer(service, request, outputs, arrays)
        except EdgeflowError as error:
            await context.abort(status_of(error).grpc, sentence(error))
        except Exception as error:
            await context.abort(grpc.StatusCode.INTERNAL, sentence(error))

    async def _check_model(self, name: str, version: str, context: Any) -> None:
        if not self._service.is_called(name, version):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model {name[:80]!r} of that version")


def read_inputs(request: Any, inputs: Sequence[TensorInfo]) -> dict[str, Array]:
    """Return the inputs of a ``ModelInferRequest`` by name.

    Raises:
        ConfigError: If the inputs are malformed, or do not fit the model.
    """
    check_names([item.name for item in request.inputs], inputs)
    by_name = {info.name: info for info in inputs}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ConfigError(f"{len(request.inputs)} inputs, but {len(raw)} raw contents")
    arrays = {}
    for index, item in enumerate(request.inputs):
        info = by_name[item.name]
        check_input(info, item.datatype, item.shape)
        if raw:
            if item.HasField("contents"):
                raise ConfigError(f"input {item.name!r} has both contents and raw contents")
            arrays[item.name] = from_raw(info, raw[index])
            continue
        field = _FIELDS.get(info.datatype)
        if field is None:
            raise ConfigError(f"input {item.name!r}: {info.datatype} needs raw contents")
        arrays[item.name] = from_values(info, list(getattr(item.contents, field)))
    return arrays


def _answer(
    service: ModelService, request: Any, outputs: Sequence[TensorInfo], arrays: dict[str, Array]
) -> Any:
    answer = pb.ModelInferResponse(model_name=service.name, model_version=service.version, id=request.id)
    is_raw = bool(request.raw_input_contents) or any(info.datatype not in _FIELDS for info in outputs)
    for info in outputs:
        item = answer.outputs.add(name=info.name, datatype=info.datatype, shape=info.shape)
        if is_raw:
            answer.raw_output_contents.append(to_raw(arrays[info.name]))
        else:
            # Protobuf can hold infinities and NaN, which `to_values` refuses because JSON cannot.
            array = arrays[info.name]
            values = array.reshape(-1).tolist() if info.datatype.startswith("FP") else to_values(info, array)
            getattr(item.contents, _FIELDS[info.datatype]).extend(values)
    return answer


def _timeout_s(request: Any, context: Any) -> float | None:
    """Return the shorter of the call's deadline and the request's ``timeout``; None without either."""
    found = {
        name: getattr(value, value.WhichOneof("parameter_choice") or "bool_param")
        for name, value in request.parameters.items()
    }
    limits = [limit for limit in (timeout_of(found), context.time_remaining()) if limit is not None]
    return min(limits, default=None)


def _described(infos: Iterable[TensorInfo]) -> list[Any]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=info.name, datatype=info.datatype, shape=info.shape)
        for info in infos
    ]
