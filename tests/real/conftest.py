"""Trained weights and real pictures, out of packages (``requirements.txt``); `make test-real` installs them.

Without a package, what needs it skips itself and says so. Nothing of the packages' code is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import edgeflow as ef
from edgeflow.cluster import Cluster, Device, Link
from edgeflow.cost import CostModel
from tests.process.conftest import _no_process_is_left, _own_cache  # noqa: F401

_HINT = "`make test-real` installs it"


def package_file(package: str, path: str) -> Path:
    """Return a file of a package, or skip the test."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {package} is not installed; {_HINT}")
    found = Path(next(iter(spec.submodule_search_locations))) / path
    if not found.exists():
        pytest.skip(f"the package {package} holds no {path}; {_HINT}")
    return found


def load_weights(module: torch.nn.Module, path: Path, *, leave: tuple[str, ...] = ()) -> torch.nn.Module:
    """Fill a module with the weights of a file, every one of them except those that start with ``leave``.

    A pickle is only read as weights: nothing that it may hold beside them is run.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights: Mapping[str, Tensor] = load_file(path)
    else:
        weights = torch.load(path, weights_only=True, map_location="cpu")
    module.load_state_dict({name: w for name, w in weights.items() if not name.startswith(leave or ("\0",))})
    return module.eval()


#: Three unequal devices, so slow, on a network that costs so little, that splitting always pays.
CLUSTER = Cluster(
    devices=tuple(
        Device(name=f"device{rank}", flops_per_second=rate, memory_bytes=2**31, overhead_s=0.0)
        for rank, rate in enumerate((1e7, 0.8e7, 0.6e7))
    ),
    network=Link(bandwidth_bytes_per_s=1e10, latency_s=0.0),
)


def split(graph: ef.ModelGraph, strategy: str, num_devices: int) -> ef.Plan:
    """Return a plan for three devices, checked to use as many of them as is meant."""
    plan = ef.plan(graph, CLUSTER, strategy=strategy, cost=CostModel(cluster=CLUSTER, message_overhead_s=0.0))
    assert len(plan.devices) == num_devices
    return plan


class Picture:
    """A photograph and what is on it (an ImageNet class)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = int(path.stem.rpartition("_")[2])

    def pixels(self, size: int, *, resize: int | None = None) -> Tensor:
        """Return (1, 3, size, size) of 0 to 1: the short side scaled to ``resize``, the middle cut out."""
        from PIL import Image

        with Image.open(self.path) as image:
            image = image.convert("RGB")
            scale = (resize or size) / min(image.size)
            wide, high = (max(size, round(side * scale)) for side in image.size)
            image = image.resize((wide, high), Image.Resampling.BICUBIC)
            left, top = (wide - size) // 2, (high - size) // 2
            array = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
        return torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).contiguous()


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    """Twenty photographs of ImageNet that foolbox carries, each of another class or scene."""
    pytest.importorskip("PIL", reason="the pillow package is not installed")
    folder = package_file("foolbox", "data")
    found = sorted(folder.glob("imagenet_*.jpg"))
    assert len(found) == 20, f"{folder} holds {len(found)} pictures of ImageNet"
    return [Picture(path) for path in found]
