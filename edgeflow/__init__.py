"""edgeflow: run one PyTorch model on a handful of unequal machines.

    import edgeflow as ef

    graph = ef.capture(module, (x,))
    cluster = ef.Cluster.load("home.yaml")
    plan = ef.plan(graph, cluster, strategy="auto")
    print(plan.explain())
    y = ef.execute(plan, (x,))
    with ef.deploy(plan, local=True) as session:
        y = session.run(x)

Nothing heavy is imported until it is used: a worker may run where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeflow.cluster.cluster import Cluster
from edgeflow.errors import ConfigError, EdgeflowError
from edgeflow.graph.file import load_graph, save_graph
from edgeflow.graph.ir import ModelGraph
from edgeflow.plan.plan import Plan
from edgeflow.planner import pareto, plan, strategies

if TYPE_CHECKING:
    from edgeflow.coordinator import Batcher, Session
    from edgeflow.cost.timeline import predict
    from edgeflow.deploying import deploy
    from edgeflow.graph.capture import capture
    from edgeflow.graph.capture_batch import capture_batch
    from edgeflow.graph.onnx_.capture import capture_onnx
    from edgeflow.measure.calibrate import calibrate
    from edgeflow.measure.contention import measure_contention
    from edgeflow.rank.local import execute
    from edgeflow.simulator import simulate

__version__ = "0.1.0"

__all__ = [
    "Batcher",
    "Cluster",
    "EdgeflowError",
    "ModelGraph",
    "Plan",
    "Session",
    "calibrate",
    "capture",
    "capture_batch",
    "capture_onnx",
    "deploy",
    "execute",
    "load_graph",
    "measure_contention",
    "pareto",
    "plan",
    "predict",
    "save_graph",
    "simulate",
    "strategies",
]

#: Public name -> module that holds it; imported on first use.
_LAZY = {
    "Batcher": "edgeflow.coordinator",
    "Session": "edgeflow.coordinator",
    "calibrate": "edgeflow.measure.calibrate",
    "capture": "edgeflow.graph.capture",
    "capture_batch": "edgeflow.graph.capture_batch",
    "capture_onnx": "edgeflow.graph.onnx_.capture",
    "deploy": "edgeflow.deploying",
    "execute": "edgeflow.rank.local",
    "measure_contention": "edgeflow.measure.contention",
    "predict": "edgeflow.cost.timeline",
    "simulate": "edgeflow.simulator",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgeflow' has no attribute {name!r}")
    try:
        module = importlib.import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ConfigError(f"edgeflow.{name} needs torch: pip install 'edgeflow-inference[torch]'") from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
