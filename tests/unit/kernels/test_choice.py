"""Which back end a name stands for, and what it refuses."""

from __future__ import annotations

import sys

import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.kernels import available_executors, executor_names, make_executor, resolve_executor


def test_back_ends_are_found_by_name() -> None:
    assert "torch" in executor_names()
    assert make_executor("torch").name == "torch"
    with pytest.raises(ConfigError, match=r"no executor 'abacus'; known: .*torch"):
        make_executor("abacus")


def test_the_best_that_is_installed_is_the_default() -> None:
    assert resolve_executor("auto") == available_executors()[0]
    assert make_executor().name == available_executors()[0]
    assert make_executor("auto", device="cpu", dtype="bfloat16").name == "torch"


def test_what_a_back_end_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used here"):
        make_executor("torch", device="abacus")
    with pytest.raises(ConfigError, match=r"no dtype 'int3' to compute in; known: .*bfloat16"):
        make_executor("torch", dtype="int3")
    if "onnxruntime" in available_executors():
        with pytest.raises(ConfigError, match="executor 'onnxruntime' computes on the cpu"):
            make_executor("onnxruntime", device="cuda")


def test_a_back_end_that_is_not_installed_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="executor 'onnxruntime' needs onnxruntime, not installed"):
        make_executor("onnxruntime")
    assert make_executor("auto").name == "torch"


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        make_executor("torch", threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="threads must be at least 1, got 0"):
        make_executor("torch", threads=0)
