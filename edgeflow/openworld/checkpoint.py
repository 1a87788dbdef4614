"""Training states as safetensors files, replaced atomically; nothing is pickled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeflow.errors import ConfigError


def write_atomically(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors with ``about`` as JSON metadata; at any time ``path`` is the old file or the new one.

    A kill leaves at most a ``.partial`` file beside it, which the next write replaces.
    """
    partial = path.with_name(path.name + ".partial")
    contiguous = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    save_file(contiguous, partial, metadata={"edgeflow": msgspec.json.encode(about).decode()})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file, and the metadata written with them.

    Raises:
        ConfigError: If it cannot be read, or was not written by `write_atomically`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("edgeflow")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if text is None:
        raise ConfigError(f"{path} was not written by edgeflow: it has no metadata")
    about: dict[str, Any] = msgspec.json.decode(text)
    return tensors, about


def pack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors under ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `pack`: return the tensors under ``prefix``, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state of each parameter, as ``position.key``; without its settings."""
    return {
        f"{position}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for position, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_state`, for an optimizer over the same parameters in the same order."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        position, _, key = name.partition(".")
        state.setdefault(int(position), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: Path) -> None:
    """Load a state dict.

    Raises:
        ConfigError: If names or shapes are not those of the module.
    """
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ConfigError(f"{where} does not fit the model: {error}") from error
