"""A worker: runs programs for coordinators, behind a gRPC server."""

from edgeflow.runtime.worker.server import WorkerServer, serve

__all__ = ["WorkerServer", "serve"]
