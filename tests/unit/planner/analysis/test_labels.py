"""Labels: a split of an input's dim carried through the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.planner.analysis import analysis_of
from tests.unit.planner.graphs import captured, graph


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


def test_a_dim_that_is_as_long_as_half_of_the_sum_is_not_taken_for_it() -> None:
    """Eight channels are summed over; the four columns are not the first half of them."""
    found = analysis_of(captured(nn.Conv2d(8, 4, 1), 1, 8, 3, 4))
    (conv,) = found.graph.operators

    assert not found.sums_along(conv, {conv.inputs[0]: 3})
    assert found.sums_along(conv, {conv.inputs[0]: 1})
