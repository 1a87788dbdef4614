"""Groups: column-parallel followed by row-parallel, found by the rules."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.planner.analysis import Analysis, Group, analysis_of
from tests.unit.planner.graphs import TwoBranches, captured, graph


def group_of(found: Analysis, root: str) -> Group:
    return next(group for group in found.groups if group.root == root)


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


def test_large_weights_are_cut_along_their_outputs() -> None:
    model = captured(nn.Sequential(nn.Linear(8, 12), nn.ReLU()), 2, 8)
    linear, relu = model.operators

    assert analysis_of(model).column_dim(linear) == 1
    assert analysis_of(model).column_dim(relu) is None
