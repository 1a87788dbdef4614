"""Settings that every test shares: seeds are printed, CI draws the same examples each time."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Printed in the header and used by `rng`; set EDGEFLOW_TEST_SEED to run a failure again.
SEED = int(os.environ.get("EDGEFLOW_TEST_SEED", "20240229"))

# A shared machine is slow at times: deadlines and slow draws say nothing about the code.
_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", **_COMMON)
settings.register_profile("ci", **_COMMON, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_report_header() -> list[str]:
    profile = "ci (same examples each time)" if os.environ.get("CI") else "default"
    return [f"seed: {SEED} (EDGEFLOW_TEST_SEED), hypothesis profile: {profile}"]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from the same state of the global generators."""
    random.seed(SEED)
    np.random.seed(SEED % 2**32)
    try:
        import torch
    except ImportError:  # a worker may run without torch, and so may its tests
        pass
    else:
        torch.manual_seed(SEED)
    yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture(autouse=True)
def _own_log_settings() -> Iterator[None]:
    """Commands configure logging for their process; the next test finds it as it was."""
    logger = logging.getLogger("edgeflow")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers[:] = handlers
    logger.propagate = propagate
    logger.setLevel(level)
