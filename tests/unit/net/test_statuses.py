"""Every exception class has a status in both protocols."""

from __future__ import annotations

import inspect

import pytest

from edgeflow import errors
from edgeflow.net.statuses import STATUSES

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.EdgeflowError)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_mapped(cls: type[errors.EdgeflowError]) -> None:
    assert cls in STATUSES
    assert 400 <= STATUSES[cls].http < 600
    assert STATUSES[cls].grpc.value[0] != 0
