"""What every test shares: printed seeds, the same examples each time in CI, certificates made once."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from edgeflow.machine import Machine
from edgeflow.net.certificates import make_authority, make_host
from edgeflow.net.security import Access, Credentials

# Printed in the header and used by `rng`; set EDGEFLOW_TEST_SEED to run a failure again.
SEED = int(os.environ.get("EDGEFLOW_TEST_SEED", "20240229"))

#: The join token of `access`.
TOKEN = "the-right-token-of-this-cluster"

# Every state machine checks itself after each event, in this process.
Machine.is_validating = True

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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``here`` is 127.0.0.1 and localhost, ``elsewhere`` is another host of the same cluster."""
    folder = tmp_path_factory.mktemp("certificates")
    make_authority(folder)
    make_host(folder, "here", ["127.0.0.1", "localhost"])
    make_host(folder, "elsewhere", ["192.0.2.7"])
    return folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority of somebody else's, for the same names."""
    folder = tmp_path_factory.mktemp("strangers")
    make_authority(folder)
    make_host(folder, "here", ["127.0.0.1", "localhost"])
    return folder


@pytest.fixture(scope="session")
def access(certificates: Path) -> Access:
    return Access(Credentials.load(certificates, "here"), TOKEN)


@pytest.fixture(autouse=True)
def _own_log_settings() -> Iterator[None]:
    """Commands configure logging for their process; the next test finds it as it was."""
    logger = logging.getLogger("edgeflow")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers[:] = handlers
    logger.propagate = propagate
    logger.setLevel(level)
