"""A worker: runs programs for coordinators, behind a gRPC server."""

from edgeflow.worker.server import WorkerServer, serve

__all__ = ["WorkerServer", "serve"]
