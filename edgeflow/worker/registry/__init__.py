"""How workers are found that nobody has listed: they join a registry, or announce themselves by mDNS.

Whoever wants to know gives two functions: one is told of each worker that joins, one of each that leaves.
"""

from edgeflow.worker.registry.announcer import Announcer
from edgeflow.worker.registry.server import RegistryServer
from edgeflow.worker.registry.state import Member, RegistryState

__all__ = ["Announcer", "Member", "RegistryServer", "RegistryState"]
