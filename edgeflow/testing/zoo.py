"""Models by name, each with example inputs, built when asked for.

Names that start with ``hf-`` come from the ``transformers`` package: its architectures, built from a
configuration, with random weights; nothing is downloaded. All weights and inputs depend on fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow import openworld
from edgeflow.errors import ConfigError
from edgeflow.testing import models


class Example(NamedTuple):
    """A module in ``eval()`` mode and what to call it with: ``module(*args, **kwargs)``."""

    module: nn.Module
    args: tuple[Tensor, ...]
    kwargs: dict[str, Tensor]


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


def random_image(image_size: int, *, in_channels: int = 3, batch: int = 1, seed: int = 0) -> Tensor:
    """Return soft blobs with some noise on them, ``x_NCHW``, of about unit variance.

    Plain noise looks the same everywhere: after global pooling two pictures of it give nearly one answer, and
    a result computed from the wrong rows is hardly wrong. This does not.
    """
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randn(batch, in_channels, 4, 4, generator=generator)
    soft = F.interpolate(blobs, size=(image_size, image_size), mode="bicubic")
    return soft + 0.3 * torch.randn(soft.shape, generator=generator)


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
    return Example(models.tiny_bert_like(), tuple(_text(vocab_size=100, length=32).values()), {})


def _text(*, vocab_size: int, length: int) -> dict[str, Tensor]:
    """Return token ids and a mask that hides the last eighth of them as padding, both ``(1, length)``."""
    ids = torch.randint(1, vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length) < length - length // 8).long()[None]
    return {"input_ids": ids * mask, "attention_mask": mask}


def _hf_resnet(pixels: int, /, **config: Any) -> Example:
    # Its own initialisation, by fan-out, leaves a thirtieth of the variance after the first convolution.
    module = _from_transformers("ResNetConfig", "ResNetForImageClassification", config, models.randomise)
    return Example(module, (random_image(pixels),), {})


def _hf_vit(pixels: int, /, **config: Any) -> Example:
    module = _from_transformers("ViTConfig", "ViTForImageClassification", config, models.randomise_norms)
    return Example(module, (random_image(pixels),), {})


def _hf_bert(length: int, /, **config: Any) -> Example:
    module = _from_transformers("BertConfig", "BertModel", config, models.randomise_norms)
    return Example(module, (), _text(vocab_size=module.config.vocab_size, length=length))


def _from_transformers(
    config_class: str, model_class: str, config: Mapping[str, Any], randomise: Callable[[nn.Module], None]
) -> Any:
    """Return a model of ``transformers`` with random weights, ready for inference."""
    transformers = _import_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(transformers, model_class)(getattr(transformers, config_class)(**config))
        randomise(module)
    return module.eval()


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "models named hf-* need the transformers package: pip install transformers"
        ) from error
    return transformers


#: Attention that looks somewhere in particular: at the usual 0.02 untrained scores are nearly equal, and an
#: error in them would not show.
_PEAKED: Final = {"initializer_range": 0.05}

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
        "hf-vit-base": partial(_hf_vit, 224, num_labels=1000, **_PEAKED),
        "hf-bert-base": partial(_hf_bert, 128, **_PEAKED),
        "hf-resnet-small": partial(
            _hf_resnet,
            64,
            embedding_size=16,
            hidden_sizes=[32, 48, 64],
            depths=[1, 2, 1],
            num_labels=10,
        ),
        "hf-vit-small": partial(
            _hf_vit,
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
            _hf_bert,
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
