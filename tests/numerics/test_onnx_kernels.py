"""Each emitter of ONNX against torch: steps of random cases, whole and cut, in 32 bits and in the others.

Nothing falls back here: what an emitter says runs on onnxruntime, or the case is counted as refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.graph.ir import Array
from edgeflow.sharding.cut import Cut
from edgeflow.sharding.region import Region
from edgeflow.sharding.rules import cut
from tests.numerics.cases import Case, Draw, Family, Rejected, check_equal, draw_case, program_of
from tests.numerics.families import FAMILIES

pytest.importorskip("onnxruntime")

from edgeflow.kernels.base import Executor
from edgeflow.kernels.onnx_.ops import has_emitter
from edgeflow.kernels.onnxruntime_ import OnnxRuntimeExecutor
from edgeflow.kernels.torch_ import TorchExecutor

_EXECUTOR = OnnxRuntimeExecutor(threads=1, fallback=None)
_NUM_CASES = 60

_TOLERANCES = {"float64": 1e-11, "float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}

#: Family -> share of its cases that may be refused, and why ONNX has no exact words for them.
_REFUSED = {
    "antialiased": 1.0,  # no such filter
    "barrier": 0.7,  # index_put, cdist
    "batch_norm": 0.3,  # by statistics of the batch
    "einsum": 0.4,  # letters that broadcast, diagonals
    "grid_sampler": 1.0,  # differs where a grid leaves the image
    "index_mask": 1.0,  # as many places as a mask holds
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), 0.2),  # of integers
    "one_hot": 0.6,  # as many classes as there are
    "pointwise": 0.25,  # gamma functions, shifts, powers of integers and the like
    "reduce": 0.2,  # variances of a single number
    "running": 1.0,  # running products and extremes
    "scatter": 0.3,  # by mean, without the element itself
    "upsample_bicubic2d": 0.1,  # to the same size by a factor
}


class _Single(Draw):
    """Draws in 32 bits, as models are."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self.dtype = torch.float32


def _cases(family: Family, seed: int) -> Iterator[tuple[Case, Draw]]:
    for index in range(_NUM_CASES):
        rng = np.random.default_rng([seed, index])
        for _ in range(200):
            draw = _Single(rng)
            try:
                yield family.draw(draw), draw
                break
            except (RuntimeError, IndexError, Rejected):
                continue


def _run(case: Case, made: Cut, executor: Executor) -> Array:
    program, held = program_of(case, made)
    index = len(held)
    executor.prepare(program, {}).compute(0, held)
    return held[index]


def _check(case: Case, made: Cut, executor: Executor) -> None:
    actual = _run(case, made, executor)
    expected = np.asarray(case.expected[made.region.slices(Region.full(case.shape))])
    try:
        check_equal(case, actual, expected, tolerances=_TOLERANCES)
    except AssertionError as error:
        raise AssertionError(f"{made.region} of {case}\nby {made.steps}\n{error}") from error


@pytest.mark.parametrize("name", FAMILIES)
def test_what_onnx_makes_is_what_torch_makes(name: str, rng: np.random.Generator) -> None:
    refused: Counter[str] = Counter()
    total = 0
    for case, draw in _cases(FAMILIES[name], int(rng.integers(2**32))):
        for region in (Region.full(case.shape), draw.region(case.shape)):
            total += 1
            try:
                _check(case, cut(case.op, case.specs, region), _EXECUTOR)
            except UnsupportedOperatorError as error:
                refused[f"{case.op.target}: {error.__cause__}"[:200]] += 1
    share = sum(refused.values()) / total
    assert share <= _REFUSED.get(name, 0.0), "\n".join(map(str, refused.items()))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_onnx_has_no_words_for_runs_on_torch(name: str, rng: np.random.Generator) -> None:
    """In 64 bits mostly, which onnxruntime lacks here and there: then, too, the answer is torch's."""
    seed = int(rng.integers(2**32))
    executor = OnnxRuntimeExecutor(threads=1, fallback=TorchExecutor(threads=1))
    for index in range(25):
        case, draw = draw_case(name, FAMILIES[name], seed=seed, index=index)
        _check(case, cut(case.op, case.specs, draw.region(case.shape)), executor)


def test_every_operator_of_the_zoo_has_an_emitter() -> None:
    """The list is what capture and the rules make of all reference models; see `test_onnx_models`."""
    assert [target for target in ZOO_TARGETS if not has_emitter(target)] == []


#: What the programs of the reference models call, on one device and split over two.
ZOO_TARGETS = tuple(
    f"aten.{name}"
    for name in """
    __and__.Tensor _to_copy.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
    adaptive_avg_pool3d.default add.Scalar add.Tensor addmm.default argmax.default avg_pool1d.default
    avg_pool2d.default avg_pool3d.default bitwise_not.default bmm.default cat.default clamp_min.default
    constant_pad_nd.default conv1d.default conv2d.default conv3d.default conv_transpose2d.input
    div.Tensor embedding.default eq.Scalar expand.default gather.default gelu.default hardtanh.default
    index.Tensor index_select.default layer_norm.default leaky_relu.default linalg_vector_norm.default
    linear.default masked_fill.Scalar matmul.default max_pool1d.default max_pool2d.default
    max_pool3d.default mean.dim mul.Scalar mul.Tensor neg.default permute.default pow.Tensor_Scalar
    prelu.default relu.default reshape.default rsqrt.default scaled_dot_product_attention.default
    select.int sigmoid.default silu.default slice.Tensor softmax.int sqrt.default sub.Tensor
    sum.dim_IntList t.default tanh.default transpose.int upsample_bilinear2d.vec where.ScalarOther
    """.split()
)
