"""What a user of Triton's own client does; run by `test_serve.py` in a process of its own.

Of its own, since tritonclient brings the protocol's messages under the same names as edgeflow does, and one
process can hold one of them. Writes answers to an .npz file, and everything else as JSON to stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    # Not at the top: whatever looks for doctests imports every file of the tests into one process.
    import tritonclient.grpc as grpc_client
    import tritonclient.http as http_client

    http_url, grpc_url, model, questions, answers = sys.argv[1:]
    inputs = dict(np.load(questions))
    found: dict[str, np.ndarray[Any, Any]] = {}
    said: dict[str, Any] = {}
    for kind, module, url in (("http", http_client, http_url), ("grpc", grpc_client, grpc_url)):
        client = module.InferenceServerClient(url)
        said[f"{kind}_live"] = client.is_server_live()
        said[f"{kind}_ready"] = client.is_server_ready()
        said[f"{kind}_model_ready"] = client.is_model_ready(model), client.is_model_ready(model, "1")
        said[f"{kind}_other_model_ready"] = client.is_model_ready("somebody-else")
        as_json = {"as_json": True} if kind == "grpc" else {}
        said[f"{kind}_server"] = client.get_server_metadata(**as_json)
        said[f"{kind}_model"] = client.get_model_metadata(model, **as_json)
        for is_binary in (False, True) if kind == "http" else (True,):
            name = f"{kind}_{'binary' if is_binary else 'json'}"
            answer = client.infer(
                model, tensors(module, inputs, is_binary), outputs=wanted(module, is_binary), request_id="7"
            )
            for output in ("scores", "features"):
                found[f"{name}_{output}"] = answer.as_numpy(output)
        found[f"{kind}_one"] = client.infer(
            model, tensors(module, inputs, True), outputs=[module.InferRequestedOutput("features")]
        ).as_numpy("features")
        requests: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
            "no_model": ("nobody", tensors(module, inputs, True), {}),
            "shape": (model, tensors(module, {**inputs, "mask": inputs["mask"][:, :3]}, True), {}),
            "dtype": (model, tensors(module, {**inputs, "mask": inputs["mask"].astype("float64")}, True), {}),
            "missing": (model, tensors(module, {"mask": inputs["mask"]}, True), {}),
            "output": (
                model,
                tensors(module, inputs, True),
                {"outputs": [module.InferRequestedOutput("nothing")]},
            ),
            "late": (model, tensors(module, inputs, True), {"timeout": 1}),
        }
        for what, (name, asked, options) in requests.items():
            said[f"{kind}_{what}"] = refusal(client.infer, name, asked, **options)
        client.close()
    np.savez(answers, **found)
    json.dump(said, sys.stdout)


def tensors(module: Any, inputs: dict[str, Any], is_binary: bool) -> list[Any]:
    made = []
    for name, array in inputs.items():
        datatype = {"float32": "FP32", "float64": "FP64"}[str(array.dtype)]
        tensor = module.InferInput(name, list(array.shape), datatype)
        if is_http(module):
            tensor.set_data_from_numpy(array, binary_data=is_binary)
        else:
            tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made


def wanted(module: Any, is_binary: bool) -> list[Any]:
    options = {"binary_data": is_binary} if is_http(module) else {}
    return [module.InferRequestedOutput(name, **options) for name in ("features", "scores")]


def is_http(module: Any) -> bool:
    return str(module.__name__).endswith(".http")


def refusal(call: Callable[..., Any], *args: Any, **options: Any) -> list[str | None]:
    from tritonclient.utils import InferenceServerException

    try:
        call(*args, **options)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return [None, "it was answered"]


if __name__ == "__main__":
    main()
