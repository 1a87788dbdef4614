"""Small and well-known networks in plain torch, for demos and tests.

Every function returns a module in ``eval()`` mode whose weights depend on ``seed`` alone; the global random
state stays as it was. The networks are not trained, but they are made to be worth comparing: BatchNorm has
means, variances, scales and shifts of its own (so that folding it wrongly shows), biases are not zero, and
activations neither vanish nor explode on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from edgeflow.errors import ConfigError
from edgeflow.testing import layers

_BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def resnet50(num_classes: int = 1000, *, seed: int = 0) -> nn.Module:
    """Return ResNet-50 v1.5 (stride in the 3x3 convolution): 25.6 M parameters, 8.2 GFLOP at 224x224."""
    with _seed(seed):
        blocks: list[nn.Module] = []
        channels = 64
        for stage, num_blocks in enumerate((3, 4, 6, 3)):
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(layers.bottleneck(channels, 256 << stage, stride))
                channels = 256 << stage
        return _ready(
            nn.Sequential(
                layers.conv(3, 64, 7, stride=2),
                nn.MaxPool2d(3, stride=2, padding=1),
                *blocks,
                *layers.classifier(channels, num_classes),
            )
        )


def tiny_resnet(num_classes: int = 10, *, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Return a residual network of basic blocks for images of about 32x32: 78 k parameters."""
    with _seed(seed):
        return _ready(
            nn.Sequential(
                layers.conv(in_channels, 16, 3),
                layers.basic(16, 16, 1),
                layers.basic(16, 32, 2),
                layers.basic(32, 64, 2),
                *layers.classifier(64, num_classes),
            )
        )


def vgg16(num_classes: int = 1000, *, hidden: int = 4096, seed: int = 0) -> nn.Module:
    """Return VGG-16 for images of 224x224: with the default ``hidden`` 138 M parameters, 31 GFLOP."""
    with _seed(seed):
        convolutions: list[nn.Module] = []
        channels = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                convolutions += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            convolutions.append(nn.MaxPool2d(2))
        linears = _linears((512 * 7 * 7, hidden, hidden, num_classes))
        return _ready(nn.Sequential(*convolutions, nn.Flatten(), *linears))


def mlp(sizes: Sequence[int] = (64, 256, 256, 10), *, seed: int = 0) -> nn.Module:
    """Return linear layers with ReLU between them.

    Raises:
        ConfigError: If there are fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ConfigError(f"an MLP needs at least 2 sizes (input, output), got {len(sizes)}")
    with _seed(seed):
        return _ready(nn.Sequential(*_linears(sizes)))


def unet(out_channels: int = 2, *, in_channels: int = 3, width: int = 16, seed: int = 0) -> nn.Module:
    """Return a U-Net of two levels; rows and columns of the image must be multiples of 4.

    The lower level goes up by a transposed convolution, the upper one by nearest-neighbour interpolation, so
    that both kinds are met.
    """
    with _seed(seed):
        return _ready(layers.UNet(in_channels, out_channels, width))


def concat_dag(num_classes: int = 10, *, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Return two Inception-like blocks: four branches with different halos, concatenated by channels."""
    with _seed(seed):
        return _ready(
            nn.Sequential(
                layers.conv(in_channels, 16, 3, stride=2),
                layers.Inception(16),
                nn.MaxPool2d(3, stride=2, padding=1),
                layers.Inception(40),
                *layers.classifier(40, num_classes),
            )
        )


def tiny_vit(
    num_classes: int = 10,
    *,
    image_size: int = 32,
    patch_size: int = 8,
    embed_dim: int = 96,
    num_heads: int = 6,
    num_layers: int = 2,
    fused_qkv: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Return a pre-norm Vision Transformer with a class token.

    Args:
        num_classes: Outputs.
        image_size: Rows and columns of an image; a multiple of ``patch_size``.
        patch_size: Rows and columns of a patch.
        embed_dim: Features of a token; a multiple of ``num_heads``.
        num_heads: Attention heads.
        num_layers: Encoder blocks.
        fused_qkv: Whether one linear layer makes q, k and v, to be chunked afterwards.
        seed: Of the weights.

    Raises:
        ConfigError: If ``image_size`` or ``embed_dim`` cannot be divided.
    """
    if image_size % patch_size:
        raise ConfigError(f"image_size {image_size} is not a multiple of patch_size {patch_size}")

    with _seed(seed):
        blocks = [
            layers.TransformerBlock(embed_dim, num_heads, fused_qkv=fused_qkv) for _ in range(num_layers)
        ]
        return _ready(layers.ViT(image_size, patch_size, embed_dim, blocks, num_classes))


def tiny_bert_like(
    *,
    vocab_size: int = 100,
    max_length: int = 64,
    embed_dim: int = 96,
    num_heads: int = 6,
    num_layers: int = 2,
    seed: int = 0,
) -> nn.Module:
    """Return a post-norm text encoder: ``(input_ids, attention_mask)``, both ``(N, L)``, to ``(N, L, D)``.

    ``attention_mask`` is 1 for tokens and 0 for padding, int64; L is at most ``max_length``.

    Raises:
        ConfigError: If ``embed_dim`` is not a multiple of ``num_heads``.
    """
    with _seed(seed):
        blocks = [layers.TransformerBlock(embed_dim, num_heads, pre_norm=False) for _ in range(num_layers)]
        return _ready(layers.TextEncoder(vocab_size, max_length, embed_dim, blocks))


def randomise(module: nn.Module) -> None:
    """Give an untrained module weights under which a wrong result shows; draws from the global generator.

    Convolutions and linear layers keep the variance of what they read, `randomise_norms` does the rest, and
    the last BatchNorm beside a ``shortcut`` is kept small, so that a deep residual network does not explode.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="linear")
        if isinstance(part, nn.modules.conv._ConvNd | nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias, std=0.1)
    randomise_norms(module)
    for part in module.modules():
        if hasattr(part, "shortcut"):
            branch = [child for name, child in part.named_children() if name != "shortcut"]
            norms = [norm for child in branch for norm in child.modules() if isinstance(norm, nn.BatchNorm2d)]
            nn.init.uniform_(norms[-1].weight, 0.2, 0.4)


def randomise_norms(module: nn.Module) -> None:
    """Give normalisation layers scales and shifts around what they have, and BatchNorm also statistics.

    Draws from the global generator. For networks from elsewhere, whose other weights are random already.
    """
    for part in module.modules():
        if isinstance(part, _BATCH_NORMS):
            nn.init.normal_(part.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(part.get_buffer("running_var"), 0.8, 1.2)
        if isinstance(part, _BATCH_NORMS | nn.LayerNorm | nn.GroupNorm | nn.InstanceNorm1d):
            with torch.no_grad():
                part.weight.mul_(torch.empty_like(part.weight).uniform_(0.7, 1.1))
                if part.bias is not None:
                    part.bias.add_(torch.empty_like(part.bias).normal_(std=0.1))


def _linears(sizes: Sequence[int]) -> list[nn.Module]:
    """Return linear layers from size to size, with ReLU between them."""
    modules: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        modules += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return modules[:-1]


@contextmanager
def _seed(seed: int) -> Iterator[None]:
    """Seed the global generator for a while, then put it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _ready(module: nn.Module) -> nn.Module:
    randomise(module)
    return module.eval()
