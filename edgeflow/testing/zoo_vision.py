"""Convolutional networks, from the ``transformers`` package and our own; merged into the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgeflow.testing import models, vision
from edgeflow.testing.zoo_parts import Example, from_transformers, random_image

_BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def settle(module: nn.Module, x: Tensor) -> None:
    """Randomise an untrained network and give its BatchNorms roughly the statistics of their inputs.

    With arbitrary statistics the activations of deep networks explode or vanish. So one batch is run, then
    scales and shifts are drawn anew. Draws from the global generator.
    """
    models.randomise(module)
    _wake(module)
    norms = [part for part in module.modules() if isinstance(part, _BATCH_NORMS)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.1)  # some come with scales next to nothing
        norm.reset_running_stats()
        norm.momentum = None  # then the running statistics are the mean of what was shown
        norm.train()
    with torch.no_grad():
        module(torch.cat([x.roll(shift, dims=-1) for shift in (0, x.shape[-1] // 3)]))
        for norm in norms:
            norm.momentum = 0.1
            variance, mean = norm.get_buffer("running_var"), norm.get_buffer("running_mean")
            variance.mul_(torch.empty_like(variance).uniform_(0.8, 1.2)).add_(1e-3)
            mean.add_(torch.empty_like(mean).normal_(std=0.1))
    module.eval()


def _wake(module: nn.Module) -> None:
    """Draw parameters that start near zero, such as layer scales, so that their branch has an effect."""
    known = nn.modules.conv._ConvNd | nn.Linear | nn.LayerNorm | nn.GroupNorm | nn.PReLU | _BATCH_NORMS
    for part in module.modules():
        if isinstance(part, known):
            continue
        for parameter in part.parameters(recurse=False):
            if parameter.detach().abs().max() < 1e-3:
                nn.init.uniform_(parameter, 0.2, 0.6)


def _made(make: Callable[[], nn.Module], x: Tensor) -> Example:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval()
        settle(module, x)
    return Example(module, (x,), {})


def _own(make: Callable[[], nn.Module], pixels: int) -> Example:
    return _made(make, random_image(pixels))


def _audio(width: int, length: int) -> Example:
    """Tones of two pitches that grow and fade, and noise."""
    time = torch.arange(length) / length
    generator = torch.Generator().manual_seed(0)
    wave = torch.sin(300 * time) * torch.cos(5 * time) + torch.sin(90 * time) * time
    x_NCL = (wave + 0.3 * torch.randn(length, generator=generator))[None, None]
    return _made(partial(vision.audio_cnn, width, 10), x_NCL)


def _video(width: int, frames: int, pixels: int) -> Example:
    x_NCDHW = torch.stack([random_image(pixels, seed=seed) for seed in range(frames)], dim=2)
    return _made(partial(vision.video_cnn, width, 10), x_NCDHW)


def _hf(config_class: str, model_class: str, pixels: int, /, **config: Any) -> Example:
    x_NCHW = random_image(pixels)
    module = from_transformers(config_class, model_class, config, partial(_settle_in_eval, x=x_NCHW))
    return Example(module, (x_NCHW,), {})


def _settle_in_eval(module: nn.Module, x: Tensor) -> None:
    module.eval()
    settle(module, x)


def _classifier(name: str) -> Callable[..., Example]:
    """Return what makes an image classifier of ``transformers`` from pixels and a configuration."""
    return partial(_hf, f"{name}Config", f"{name}ForImageClassification")


_MOBILENET_V1 = _classifier("MobileNetV1")
_MOBILENET_V2 = _classifier("MobileNetV2")
_EFFICIENTNET = _classifier("EfficientNet")
_CONVNEXT = _classifier("ConvNext")
_CONVNEXT_V2 = _classifier("ConvNextV2")
_REGNET = _classifier("RegNet")
_MOBILEVIT = _classifier("MobileViT")
_SEGFORMER = partial(_hf, "SegformerConfig", "SegformerForSemanticSegmentation")
_TINY_STAGES: Final[Mapping[str, Any]] = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}

#: Name -> what builds the model; see `edgeflow.testing.zoo`. Small ones keep four rows or more to the end, so
#: that three devices each have some.
VISION: Final[Mapping[str, Callable[[], Example]]] = MappingProxyType(
    {
        "detector": partial(_own, partial(vision.Detector, 16, 1, 80), 416),
        "densenet121": partial(_own, partial(vision.densenet, 32, (6, 12, 24, 16), 1000), 224),
        "inception": partial(_own, partial(vision.inception, 96, 3, 1000), 299),
        "shufflenet": partial(_own, partial(vision.shufflenet, (24, 116, 232, 464), (3, 7, 3), 1000), 224),
        "unet-gn": partial(_own, partial(vision.normed_unet, (32, 64, 128, 256), 8), 192),
        "audio-cnn": partial(_audio, 128, 48000),
        "video-cnn": partial(_video, 32, 16, 112),
        "detector-small": partial(_own, partial(vision.Detector, 4, 1, 3), 128),
        "densenet-small": partial(_own, partial(vision.densenet, 6, (2, 2, 2), 10), 80),
        "inception-small": partial(_own, partial(vision.inception, 8, 1, 10), 91),
        "shufflenet-small": partial(_own, partial(vision.shufflenet, (8, 16, 32), (1, 1), 10), 68),
        "unet-gn-small": partial(_own, partial(vision.normed_unet, (8, 16, 16, 24), 4), 48),
        "audio-cnn-small": partial(_audio, 8, 1203),
        "video-cnn-small": partial(_video, 4, 6, 28),
        "hf-mobilenet-v1": partial(_MOBILENET_V1, 224, num_labels=1000),
        "hf-mobilenet-v2": partial(_MOBILENET_V2, 224, num_labels=1000),
        "hf-efficientnet-b0": partial(
            _EFFICIENTNET,
            224,
            image_size=224,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_dim=1280,
            num_labels=1000,
        ),
        "hf-convnext-tiny": partial(_CONVNEXT, 224, num_labels=1000),
        "hf-convnextv2-tiny": partial(_CONVNEXT_V2, 224, num_labels=1000),
        "hf-regnet": partial(_REGNET, 224, num_labels=1000),
        "hf-segformer-b0": partial(_SEGFORMER, 512, num_labels=150),
        "hf-mobilevit": partial(_MOBILEVIT, 256, num_labels=1000),
        "hf-mobilenet-v1-small": partial(_MOBILENET_V1, 128, depth_multiplier=0.25, num_labels=10),
        "hf-mobilenet-v2-small": partial(_MOBILENET_V2, 128, depth_multiplier=0.35, num_labels=10),
        "hf-efficientnet-small": partial(
            _EFFICIENTNET,
            128,
            image_size=128,
            width_coefficient=0.25,
            depth_coefficient=0.3,
            hidden_dim=320,
            num_labels=10,
        ),
        "hf-convnext-small": partial(_CONVNEXT, 128, **_TINY_STAGES, num_labels=10),
        "hf-convnextv2-small": partial(_CONVNEXT_V2, 128, **_TINY_STAGES, num_labels=10),
        "hf-regnet-small": partial(
            _REGNET, 128, **_TINY_STAGES, embedding_size=16, groups_width=8, num_labels=10
        ),
        "hf-segformer-small": partial(
            _SEGFORMER,
            128,
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 40, 64],
            decoder_hidden_size=32,
            num_labels=5,
        ),
        "hf-mobilevit-small": partial(
            _MOBILEVIT,
            128,
            image_size=128,
            hidden_sizes=[24, 32, 40],
            neck_hidden_sizes=[8, 12, 16, 20, 24, 32, 48],
            num_labels=10,
        ),
    }
)
