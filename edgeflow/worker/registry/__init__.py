"""Finds workers that are not listed: they join a registry, or announce themselves by mDNS.

Both call two functions: one with each worker that joins, one with each that leaves.
"""

from edgeflow.worker.registry.announcer import Announcer
from edgeflow.worker.registry.server import RegistryServer
from edgeflow.worker.registry.state import Member, RegistryState

__all__ = ["Announcer", "Member", "RegistryServer", "RegistryState"]
