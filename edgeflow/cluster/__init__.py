from edgeflow.cluster.cluster import Cluster
from edgeflow.cluster.device import Device
from edgeflow.cluster.network import Hop, Link, Path, Segment
from edgeflow.cluster.profile import DeviceProfile

__all__ = ["Cluster", "Device", "DeviceProfile", "Hop", "Link", "Path", "Segment"]
