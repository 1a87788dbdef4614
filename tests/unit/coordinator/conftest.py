"""A small network and its graph, shared by the tests of whole sessions."""

from __future__ import annotations

from typing import Any

import pytest

import edgeflow as ef


@pytest.fixture(scope="session")
def module() -> Any:
    pytest.importorskip("torch")
    from edgeflow.testing import models

    return models.tiny_resnet()


@pytest.fixture(scope="session")
def graph(module: Any) -> ef.ModelGraph:
    import torch

    return ef.capture(module, (torch.zeros(1, 3, 32, 32),))
