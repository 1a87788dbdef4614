"""Transformers of text, images and sound, from the ``transformers`` package; merged into the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from edgeflow.testing import models
from edgeflow.testing.zoo_parts import PEAKED, Example, from_transformers, random_image, random_text


def _vit(pixels: int, /, **config: Any) -> Example:
    module = from_transformers("ViTConfig", "ViTForImageClassification", config, models.randomise_norms)
    return Example(module, (random_image(pixels),), {})


def _bert(length: int, /, **config: Any) -> Example:
    module = from_transformers("BertConfig", "BertModel", config, models.randomise_norms)
    return Example(module, (), random_text(vocab_size=module.config.vocab_size, length=length))


#: Name -> what builds the model; see `edgeflow.testing.zoo`.
TEXT: Final[Mapping[str, Callable[[], Example]]] = MappingProxyType(
    {
        "hf-vit-base": partial(_vit, 224, num_labels=1000, **PEAKED),
        "hf-bert-base": partial(_bert, 128, **PEAKED),
        "hf-vit-small": partial(
            _vit,
            32,
            image_size=32,
            patch_size=8,
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_labels=10,
            initializer_range=0.15,
        ),
        "hf-bert-small": partial(
            _bert,
            32,
            vocab_size=200,
            max_position_embeddings=64,
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=6,
            initializer_range=0.15,
        ),
    }
)
