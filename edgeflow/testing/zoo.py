"""Models by name, each with example inputs, built when asked for.

Names that start with ``hf-`` come from the ``transformers`` package: its architectures, built from a
configuration, with random weights; nothing is downloaded. All weights and inputs depend on fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import nn

from edgeflow import openworld
from edgeflow.errors import ConfigError
from edgeflow.testing import models, zoo_text, zoo_vision
from edgeflow.testing.zoo_parts import Example, from_transformers, random_image, random_text

__all__ = ["ZOO", "Example", "build", "random_image"]


def build(name: str) -> Example:
    """Return the model called ``name`` and inputs for it.

    Raises:
        ConfigError: If there is no such model, or it needs a package that is not installed.

    Examples:
        >>> module, args, kwargs = build("mlp")
        >>> module(*args, **kwargs).shape
        torch.Size([4, 10])
    """
    if name not in ZOO:
        raise ConfigError(f"unknown model {name!r}; known models: {', '.join(ZOO)}")
    return ZOO[name]()


def _openworld(size: str, **changes: int) -> Example:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = openworld.build(size, **changes)
        models.randomise_norms(model)
    image = random_image(model.config.image_size, in_channels=model.config.in_channels)
    return Example(model.eval(), (image,), {})


def _image_model(make: Callable[[], nn.Module], image_size: int) -> Example:
    return Example(make(), (random_image(image_size),), {})


def _mlp() -> Example:
    return Example(models.mlp(), (torch.randn(4, 64, generator=torch.Generator().manual_seed(0)),), {})


def _tiny_bert() -> Example:
    return Example(models.tiny_bert_like(), tuple(random_text(vocab_size=100, length=32).values()), {})


def _hf_resnet(pixels: int, /, **config: Any) -> Example:
    # Its own initialisation, by fan-out, leaves a thirtieth of the variance after the first convolution.
    module = from_transformers("ResNetConfig", "ResNetForImageClassification", config, models.randomise)
    return Example(module, (random_image(pixels),), {})


#: Name -> what builds the model. Building takes from milliseconds to seconds; nothing is built before.
ZOO: Final[Mapping[str, Callable[[], Example]]] = MappingProxyType(
    {
        "openworld-tiny": partial(_openworld, "tiny"),
        "openworld-tiny-28": partial(_openworld, "tiny", image_size=28, in_channels=1),
        "openworld-small": partial(_openworld, "small"),
        "openworld-base": partial(_openworld, "base"),
        "resnet50": partial(_image_model, models.resnet50, 224),
        "vgg16": partial(_image_model, models.vgg16, 224),
        "tiny-resnet": partial(_image_model, models.tiny_resnet, 32),
        "tiny-vit": partial(_image_model, models.tiny_vit, 32),
        "tiny-vit-fused": partial(_image_model, partial(models.tiny_vit, fused_qkv=True), 32),
        "tiny-bert": _tiny_bert,
        "unet": partial(_image_model, models.unet, 64),
        "concat-dag": partial(_image_model, models.concat_dag, 32),
        "mlp": _mlp,
        "hf-resnet50": partial(_hf_resnet, 224, num_labels=1000),
        "hf-resnet-small": partial(
            _hf_resnet,
            64,
            embedding_size=16,
            hidden_sizes=[32, 48, 64],
            depths=[1, 2, 1],
            num_labels=10,
        ),
        **zoo_text.TEXT,
        **zoo_vision.VISION,
    }
)
