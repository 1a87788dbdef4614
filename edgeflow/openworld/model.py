"""The reference model: a hybrid open-world image classifier.

A residual CNN turns the image into a small feature map, Transformer encoder blocks mix its positions, and a
cosine head compares the pooled feature with one prototype per class. Prototypes of labelled classes (*known*)
and of classes to be discovered in unlabelled data (*novel*) are two separate parameters, so that novel ones
can be added, trained or replaced alone.

All operators before the tokens are convolution, BatchNorm, ReLU and max-pool (which can be split by rows);
those after are ``linear``, ``layer_norm``, ``gelu`` and attention with separate q, k and v projections (which
can be split by heads, columns or tokens). Rows of the feature map become consecutive tokens, so a split by
rows is also a split by tokens.

Shape suffixes: N images, C channels, H and W rows and columns, L tokens (L = H * W of the last feature map),
D features of a token, A attention heads, K classes (known first, then novel).

References:
    The cosine head with scale 10: Ye, Gan, Wei, Zhang, "Bridging the Gap: Learning Pace Synchronization for
    Open-World Semi-Supervised Learning", IJCAI 2024.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.openworld.config import OpenWorldConfig, config_for

#: Initial scale of a residual branch. With 1, the variance of activations in a fresh network doubles with
#: every block, and the Transformer's contribution becomes negligible beside the CNN's output.
_BRANCH_GAIN: Final = 0.25


class ConvNorm(nn.Sequential):
    """Convolution without bias, padded by half its kernel; BatchNorm whose scale starts at ``gain``; ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        relu: bool = True,
        gain: float = 1.0,
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        norm = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.constant_(norm.weight, gain)
        super().__init__(conv, norm, *([nn.ReLU()] if relu else []))


class ResidualBlock(nn.Module):
    """``relu(shortcut(x) + conv3x3(conv3x3(x)))``; the shortcut is 1x1 where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNorm(in_channels, out_channels, 3, stride=stride),
            ConvNorm(out_channels, out_channels, 3, relu=False, gain=_BRANCH_GAIN),
        )
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = (
            ConvNorm(in_channels, out_channels, 1, stride=stride, relu=False)
            if changes_shape
            else nn.Identity()
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(self.shortcut(x_NCHW) + self.branch(x_NCHW))


class SelfAttention(nn.Module):
    """Multi-head self-attention; q, k and v are projected apart, so rows of a weight belong to one head."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def _split_heads(self, x_NLD: Tensor) -> Tensor:
        """Return ``(N, A, L, D / A)``."""
        batch, length, dim = x_NLD.shape
        return x_NLD.view(batch, length, self.num_heads, dim // self.num_heads).transpose(1, 2)

    def forward(self, x_NLD: Tensor) -> Tensor:
        q, k, v = (self._split_heads(project(x_NLD)) for project in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.out(mixed.transpose(1, 2).reshape(x_NLD.shape))
        return projected


class EncoderBlock(nn.Module):
    """A pre-norm Transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``."""

    def __init__(self, embed_dim: int, num_heads: int, *, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attention = SelfAttention(embed_dim, num_heads)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, mlp_ratio * embed_dim),
            nn.GELU(),
            nn.Linear(mlp_ratio * embed_dim, embed_dim),
        )

    def forward(self, x_NLD: Tensor) -> Tensor:
        x_NLD = x_NLD + self.attention(self.norm1(x_NLD))
        y_NLD: Tensor = x_NLD + self.mlp(self.norm2(x_NLD))
        return y_NLD


class CosineHead(nn.Module):
    """``scale * normalize(f) @ normalize(W).T`` with known prototypes above novel ones in W.

    Attributes:
        known: Prototypes of classes that had labels, ``(num_known, D)``.
        novel: Prototypes of classes that are being discovered, ``(num_novel, D)``.
    """

    def __init__(self, embed_dim: int, num_known: int, num_novel: int, *, scale: float = 10.0) -> None:
        super().__init__()
        self.scale = scale
        self.known = nn.Parameter(torch.randn(num_known, embed_dim) * embed_dim**-0.5)
        self.novel = nn.Parameter(torch.randn(num_novel, embed_dim) * embed_dim**-0.5)

    def resize(self, num_novel: int, *, seed: int) -> None:
        """Replace the novel prototypes by ``num_novel`` random ones."""
        generator = torch.Generator().manual_seed(seed)
        dim = self.known.shape[1]
        self.novel = nn.Parameter(torch.randn(num_novel, dim, generator=generator) * dim**-0.5)

    def forward(self, f_ND: Tensor) -> Tensor:
        prototypes_KD = _normalize(torch.cat([self.known, self.novel]))
        return self.scale * F.linear(_normalize(f_ND), prototypes_KD)


def _normalize(x: Tensor) -> Tensor:
    """Return rows of length 1, in three operators (`torch.nn.functional.normalize` adds an expand)."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.clamp_min(1e-12)


class OpenWorldClassifier(nn.Module):
    """Residual CNN, Transformer encoder, cosine head over known and novel classes.

    Attributes:
        config: The shape that it was built from.
        cnn: ``(N, C, image_size, image_size)`` to ``(N, D, H, W)``.
        position: Learned positional embedding, ``(1, L, D)``.
        encoder: Transformer blocks and the last LayerNorm, ``(N, L, D)`` to ``(N, L, D)``.
        head: The prototypes.
    """

    def __init__(self, config: OpenWorldConfig) -> None:
        super().__init__()
        self.config = config
        self.cnn = _cnn(config)
        self.position = nn.Parameter(0.02 * torch.randn(1, config.num_tokens, config.embed_dim))
        self.encoder = nn.Sequential(
            *(
                EncoderBlock(config.embed_dim, config.num_heads, mlp_ratio=config.mlp_ratio)
                for _ in range(config.num_layers)
            ),
            nn.LayerNorm(config.embed_dim, eps=1e-6),
        )
        self.head = CosineHead(config.embed_dim, config.num_known, config.num_novel, scale=config.scale)
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def resize_novel(self, num_novel: int, *, seed: int) -> None:
        """Change the number of novel classes: draw new prototypes for them, and keep all else.

        Raises:
            ConfigError: If the number is negative.
        """
        self.config = replace(self.config, num_novel=num_novel)
        self.head.resize(num_novel, seed=seed)

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Return the pooled feature of every image, ``(N, D)``, not normalised."""
        tokens_NLD = self.cnn(x_NCHW).flatten(2).transpose(1, 2) + self.position
        encoded_NLD: Tensor = self.encoder(tokens_NLD)
        return encoded_NLD.mean(dim=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return logits, ``(N, num_known + num_novel)``, known classes first."""
        logits_NK: Tensor = self.head(self.features(x_NCHW))
        return logits_NK


def _cnn(config: OpenWorldConfig) -> nn.Sequential:
    """Return the convolutional part: stem, residual stages, 1x1 projection to ``embed_dim``."""
    layers: list[nn.Module] = [
        ConvNorm(config.in_channels, config.stem_channels, config.stem_kernel, stride=config.stem_stride)
    ]
    if config.stem_pool:
        layers.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
    channels = config.stem_channels
    for stage in config.stages:
        for index in range(stage.num_blocks):
            layers.append(ResidualBlock(channels, stage.channels, stride=stage.stride if index == 0 else 1))
            channels = stage.channels
    layers.append(ConvNorm(channels, config.embed_dim, 1, relu=False))
    return nn.Sequential(*layers)


def build(
    size: str,
    *,
    num_known: int | None = None,
    num_novel: int | None = None,
    image_size: int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
) -> OpenWorldClassifier:
    """Return a freshly initialised model in training mode; the global random state stays as it was.

    Args:
        size: ``tiny`` (28x28 or 32x32 images), ``small`` (96x96) or ``base`` (224x224, 19 M parameters).
        num_known: Classes with labels; by default that of `SIZES`, as for the next three.
        num_novel: Classes without labels.
        image_size: Rows and columns of an image, in pixels; at least the model's total stride.
        in_channels: 1 for grey images, 3 for colour.
        seed: The same seed gives the same weights.

    Raises:
        ConfigError: If there is no such size, or a number is out of range.

    Examples:
        >>> model = build("tiny", num_known=6, num_novel=4, image_size=28, in_channels=1).eval()
        >>> model(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    config = config_for(
        size, num_known=num_known, num_novel=num_novel, image_size=image_size, in_channels=in_channels
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OpenWorldClassifier(config)
