"""The model as a DAG of operators: capture, passes, the graph itself, and its file format."""

from edgeflow.graph.file import load_graph, save_graph
from edgeflow.graph.ir import ModelGraph, Operator, TensorSpec

__all__ = ["ModelGraph", "Operator", "TensorSpec", "load_graph", "save_graph"]
