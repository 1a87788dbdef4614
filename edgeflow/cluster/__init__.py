from edgeflow.cluster.cluster import Cluster, Device, Link

__all__ = ["Cluster", "Device", "Link"]
