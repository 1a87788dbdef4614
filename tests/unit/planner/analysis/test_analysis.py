"""What the analysis finds in tiny models by asking the rules: labels, groups, stretches."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.cluster.cluster import Cluster
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner import plan
from edgeflow.planner.analysis import Analysis, Group, analysis_of
from tests.unit.planner.graphs import TwoBranches, captured, graph


def group_of(found: Analysis, root: str) -> Group:
    return next(group for group in found.groups if group.root == root)


def test_rows_are_carried_through_a_cnn_up_to_where_they_are_summed() -> None:
    found = analysis_of(graph("tiny-resnet"))
    specs = found.graph.specs
    pool = next(op for op in found.graph.operators if "adaptive_avg_pool2d" in op.target)

    before = [op for op in found.graph.operators if len(specs[op.output].shape) == 4 and op is not pool]

    assert {found.labels[op.output] for op in before} == {2}
    assert found.sums_along(pool, found.labels)


def test_rows_of_an_image_become_tokens() -> None:
    found = analysis_of(graph("tiny-vit"))
    specs = found.graph.specs

    tokens = [op for op in found.graph.operators if specs[op.output].shape == (1, 17, 96)]

    assert tokens
    assert {found.labels[op.output] for op in tokens} == {1}


class _SqueezeExcite(nn.Module):
    """Halves side by side in the channels, and each channel times a number that comes from all of the map."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = torch.cat([self.left(x_NCHW), self.right(x_NCHW)], dim=1)
        scale = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y_NCHW, 1))))
        return y_NCHW * torch.sigmoid(scale)


def test_rows_go_through_a_concatenation_of_channels_and_around_a_squeeze() -> None:
    found = analysis_of(captured(_SqueezeExcite(), 1, 3, 32, 32))
    shape_of = {op.output: found.graph.specs[op.output].shape for op in found.graph.operators}

    assert {name: found.labels.get(name) for name in shape_of} == {
        name: 2 if shape[2:] == (32, 32) else None for name, shape in shape_of.items()
    }
    assert sum(found.sums_along(op, found.labels) for op in found.graph.operators) == 1


def test_rows_stay_rows_under_a_window_that_spans_all_of_them() -> None:
    """Every output row reads every input row; half of them is half of the work nevertheless."""
    found = analysis_of(captured(nn.Sequential(nn.Conv2d(4, 4, 7, padding=3), nn.ReLU()), 1, 4, 4, 9))

    assert [found.labels[op.output] for op in found.graph.operators] == [2, 2]


def test_every_dim_of_the_input_gives_a_labelling_best_first() -> None:
    found = analysis_of(captured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), 2, 3, 8, 8))

    # Batch, rows and columns split all the work; channels of the input do not come through a convolution.
    assert [labels["input"] for labels in found.labellings] == [0, 2, 3, 1]
    assert found.labels is found.labellings[0]


def test_heads_and_hidden_columns_are_groups() -> None:
    found = analysis_of(graph("tiny-vit"))

    shapes = {(group.size, group.multiple) for group in found.groups if len(group.operators) > 1}

    # 96 features in 6 heads of 16, and 384 hidden columns one by one.
    assert {(96, 16), (384, 1)} <= shapes
    for group in found.groups:
        assert not group.has_spatial_kernel or any("conv" in name for name in group.operators)


class _GroupedQueries(nn.Module):
    """Six heads of 4 features, three of them to one head of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 24), nn.Linear(16, 8), nn.Linear(16, 8)
        self.out = nn.Linear(24, 16)

    def forward(self, x_NLD: Tensor) -> Tensor:
        q, k, v = (
            p(x_NLD).unflatten(-1, (-1, 4)).transpose(1, 2) for p in (self.query, self.key, self.value)
        )
        y_NLD: Tensor = self.out(
            F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2)
        )
        return y_NLD


def test_heads_that_share_keys_and_values_stay_together() -> None:
    found = analysis_of(captured(_GroupedQueries(), 1, 5, 16))
    root = found.graph.operators[-1].name

    assert (group_of(found, root).size, group_of(found, root).multiple) == (24, 12)


def test_groups_are_disjoint_and_hold_nothing_that_others_read() -> None:
    for name in ("tiny-vit", "tiny-resnet", "tiny-bert", "openworld-tiny"):
        found = analysis_of(graph(name))
        members = [operator for group in found.groups for operator in group.operators]
        assert len(members) == len(set(members))
        for group in found.groups:
            for operator in group.operators[:-1]:
                readers = found.graph.consumers[found.graph.by_name[operator].output]
                assert {reader.name for reader in readers} <= set(group.operators)


def test_channels_of_several_branches_are_no_group() -> None:
    """The last channels come from the narrow branch alone, the first from the wide one: shares would not
    be in proportion to work."""
    found = analysis_of(captured(TwoBranches(), 1, 3, 6, 6))
    root = found.graph.operators[-1].name

    assert [group.operators for group in found.groups if group.root == root] == []


def test_a_dim_that_is_as_long_as_half_of_the_sum_is_not_taken_for_it() -> None:
    """Eight channels are summed over; the four columns are not the first half of them."""
    found = analysis_of(captured(nn.Conv2d(8, 4, 1), 1, 8, 3, 4))
    (conv,) = found.graph.operators

    assert not found.sums_along(conv, {conv.inputs[0]: 3})
    assert found.sums_along(conv, {conv.inputs[0]: 1})


def test_large_weights_are_cut_along_their_outputs() -> None:
    model = captured(nn.Sequential(nn.Linear(8, 12), nn.ReLU()), 2, 8)
    linear, relu = model.operators

    assert analysis_of(model).column_dim(linear) == 1
    assert analysis_of(model).column_dim(relu) is None


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet", "tiny-bert", "openworld-tiny", "unet", "mlp"])
def test_stretches_are_the_graph_in_order_and_tear_no_group(name: str) -> None:
    found = analysis_of(graph(name))

    assert [op for stretch in found.stretches for op in stretch] == list(found.graph.operators)
    where = {op.name: index for index, stretch in enumerate(found.stretches) for op in stretch}
    for group in found.groups:
        assert len({where[operator] for operator in group.operators}) == 1


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
