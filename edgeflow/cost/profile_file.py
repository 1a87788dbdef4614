"""Profiles as files: what a cluster needs of a device, and the measurements that it was fitted to.

JSON. `edgeflow.cluster.file` reads the condensed part alone; the samples are for whoever fits something else.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgeflow.cluster.profile import PROFILE_FORMAT, DeviceProfile
from edgeflow.cost.kernels import Sample
from edgeflow.errors import ConfigError


class PeerLink(msgspec.Struct, frozen=True, kw_only=True):
    """The network to one worker, as it was measured.

    Attributes:
        method: How.
    """

    address: str
    name: str
    latency_s: float
    bandwidth_bytes_per_s: float
    method: str


class ProfileFile(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `edgeflow profile` found out."""

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
