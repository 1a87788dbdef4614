"""The analysis of a graph: made once, given up with the graph."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import torch
from torch import nn

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner import plan
from edgeflow.planner.analysis import analysis_of
from tests.unit.planner.graphs import captured, graph


def test_an_analysis_lives_with_its_graph() -> None:
    model: ModelGraph = graph("mlp")
    assert analysis_of(model) is analysis_of(model)


def test_flops_are_those_of_the_whole_operators() -> None:
    found = analysis_of(captured(nn.Linear(8, 12), 2, 8))
    assert found.total_flops == 2 * 2 * 8 * 12


def test_a_model_of_one_element_has_nothing_to_split() -> None:
    found = analysis_of(captured(nn.ReLU(), 1))

    assert found.labellings == ()
    assert found.labels == {}
    assert found.groups == ()
    assert torch.Size([1]) == found.graph.specs["input"].shape


def test_a_graph_that_was_planned_is_given_up_with_all_that_was_found_out_about_it() -> None:
    model = dataclasses.replace(graph("tiny-resnet"))
    plan(model, Cluster.local([1.0, 0.5]))
    gone = weakref.ref(model)

    del model
    gc.collect()

    assert gone() is None
