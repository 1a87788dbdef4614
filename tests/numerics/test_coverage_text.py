"""How much of the Transformers that people run can be split, along what, and whether plans find it.

Three questions for each architecture: which share of the FLOPs some rule divides; which share a split of the
input's tokens (or rows, or batch) is carried to; and whether attention and MLP of every block form the pairs
of column-parallel and row-parallel products that tensor parallelism is made of, in whole heads, or whole
groups of query heads where these share keys and values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import pytest

import edgeflow as ef
from edgeflow.graph.ir import ModelGraph
from edgeflow.planner.analysis import analysis_of
from edgeflow.planner.coverage import coverage
from edgeflow.testing import zoo
from edgeflow.testing.zoo_text import TEXT


class Expected(NamedTuple):
    """What an architecture of two blocks, 96 features wide, must show.

    ``heads`` and ``hidden`` are the groups of attention and MLP: how many, of what size, in what units.
    ``grouped`` and ``carried`` are the least shares of FLOPs in groups and under a label.
    """

    heads: tuple[tuple[int, int, int], ...] = ((2, 96, 16),)
    hidden: tuple[tuple[int, int, int], ...] = ((2, 192, 1),)
    grouped: float = 0.97
    carried: float = 0.99


#: Patches are cut by a convolution of one tenth of the FLOPs or more at this size: no pair, but labelled.
_IMAGE = 0.7
_EXPECTED = {
    "hf-vit-small": Expected(grouped=_IMAGE),
    "hf-deit-small": Expected(grouped=_IMAGE),
    "hf-dinov2-small": Expected(grouped=_IMAGE),
    # Two stages, of two and four heads of 12 features.
    "hf-swin-small": Expected(
        heads=((2, 24, 12), (2, 48, 12)), hidden=((2, 96, 1), (2, 192, 1)), grouped=0.9
    ),
    "hf-bert-small": Expected(),
    "hf-distilbert-small": Expected(),
    "hf-modernbert-small": Expected(),
    "hf-deberta-small": Expected(),
    # The product with the vocabulary is cut along its columns, in no pair.
    "hf-gpt2-small": Expected(hidden=((2, 384, 1),), grouped=0.9),
    "hf-llama-small": Expected(heads=((2, 96, 32),)),
    # Keys and values are part of the answer, so they are made outside of the pairs; queries are cut alone.
    "hf-llama-cache-small": Expected(grouped=0.75),
    "hf-qwen2-small": Expected(heads=((2, 96, 32),)),
    "hf-mistral-small": Expected(heads=((2, 96, 32),)),
    "hf-phi3-small": Expected(heads=((2, 96, 32),)),
    # One head of keys and values for all queries, and a fourfold MLP beside attention.
    "hf-falcon-small": Expected(hidden=((2, 384, 1),), grouped=0.85),
    "hf-t5-encoder-small": Expected(),
    # One encoder block, one decoder block with self-attention and cross-attention.
    "hf-bart-small": Expected(heads=((3, 96, 16),)),
    "hf-clip-small": Expected(heads=((4, 96, 16),), hidden=((4, 192, 1),), grouped=0.9),
    # Two convolutions stand before the blocks.
    "hf-whisper-encoder-small": Expected(),
    "transformer-encoder": Expected(),
}


@lru_cache(maxsize=1)
def captured(name: str) -> ModelGraph:
    if name.startswith("hf-"):
        pytest.importorskip("transformers")
    module, args, kwargs = zoo.build(name)
    return ef.capture(module, args, kwargs=kwargs)


def test_every_small_transformer_is_looked_at() -> None:
    assert set(_EXPECTED) == {name for name in TEXT if name.endswith("-small") or not name.startswith("hf-")}


@pytest.mark.parametrize("name", _EXPECTED)
def test_nearly_all_work_can_be_split(name: str) -> None:
    found = coverage(captured(name))

    assert found.split_share >= 0.99, found.barriers
    # What has no rule runs whole: exact, and here too little to matter.
    unknown = [kind.target for kind in found.operators if not kind.has_rule]
    assert not unknown or unknown == ["aten.adaptive_avg_pool1d.default"]


@pytest.mark.parametrize("name", _EXPECTED)
def test_tokens_or_batch_split_all_of_it(name: str) -> None:
    analysis = analysis_of(captured(name))
    carried = sum(
        analysis.flops[op.name] for op in analysis.graph.operators if op.first_output in analysis.labels
    )

    assert carried >= _EXPECTED[name].carried * analysis.total_flops


@pytest.mark.parametrize("name", _EXPECTED)
def test_every_block_forms_its_pairs(name: str) -> None:
    """Attention from its projections to the product that sums over heads, and the MLP."""
    expected = _EXPECTED[name]
    analysis = analysis_of(captured(name))
    pairs = [group for group in analysis.groups if len(group.operators) > 1]
    found = [(group.size, group.multiple) for group in pairs]

    for count, size, multiple in (*expected.heads, *expected.hidden):
        assert found.count((size, multiple)) == count, found
    assert sum(group.flops for group in pairs) >= expected.grouped * analysis.total_flops
    for group in pairs:
        targets = [analysis.graph.by_name[name].target for name in group.operators]
        if (group.size, group.multiple) in {(size, multiple) for _, size, multiple in expected.heads}:
            assert "aten.scaled_dot_product_attention.default" in targets or "aten.softmax.int" in targets
