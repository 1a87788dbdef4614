"""Profile files (JSON): a device profile and the measurements that it was fitted to.

`edgeflow.cluster.file` reads the profile only; the samples serve other fits.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeflow.cluster.profile import PROFILE_FORMAT, DeviceProfile
from edgeflow.cost.kernels import Sample
from edgeflow.errors import ConfigError


class PeerLink(msgspec.Struct, frozen=True, kw_only=True):
    """The measured network to one worker.

    Attributes:
        method: How it was measured.
    """

    address: str
    name: str
    latency_s: float
    bandwidth_bytes_per_s: float
    method: str


class ProfileFile(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `edgeflow profile`."""

    format: str = PROFILE_FORMAT
    profile: DeviceProfile
    samples: tuple[Sample, ...] = ()
    peers: tuple[PeerLink, ...] = ()


def save_profile(found: ProfileFile, path: Path) -> None:
    """Write a profile.

    Raises:
        ConfigError: If the file cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    except OSError as error:
        raise ConfigError(f"cannot write profile {path}: {error.strerror or error}") from error
