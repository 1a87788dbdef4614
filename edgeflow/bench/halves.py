"""Split a module into two halves of about the same duration, for ``torch.distributed.pipelining``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgeflow.errors import ConfigError
from edgeflow.testing import zoo


def half_of(example: zoo.Example) -> str:
    """Return the name of the submodule, in any list of layers, that begins nearest to half of the work.

    Work is counted in weights times positions, so that every process finds the same part.
    """
    parts = {
        f"{name}.{child}" if name else child
        for name, module in example.module.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for child, _ in module.named_children()
    }
    done = 0.0
    begins: dict[str, float] = {}
    handles = []

    def before(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any) -> None:
            begins.setdefault(name, done)

        return hook

    def after(module: nn.Module, _args: Any, out: Any) -> None:
        nonlocal done
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear | nn.Conv2d) and isinstance(weight, torch.Tensor):
            done += out.numel() * weight.numel() / weight.shape[0]

    for name, module in example.module.named_modules():
        if name in parts:
            handles.append(module.register_forward_pre_hook(before(name)))
        handles.append(module.register_forward_hook(after))
    try:
        with torch.no_grad():
            example.module(*example.args, **example.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    inner = {name: work for name, work in begins.items() if 0 < work < done}
    if not inner:
        raise ConfigError("no list of layers to cut in half")
    return min(inner, key=lambda name: (abs(inner[name] - done / 2), name))


def split(example: zoo.Example, at: str) -> Any:
    """Return torch's ``Pipe`` of two stages, the second of which begins with the part ``at``."""
    from torch.distributed.pipelining import SplitPoint, pipeline

    with torch.no_grad():
        return pipeline(example.module, example.args, example.kwargs, split_spec={at: SplitPoint.BEGINNING})
