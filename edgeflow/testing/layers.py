"""Layers of the networks in `edgeflow.testing.models`, with torch's default weights.

Shape suffixes: N batch, C channels, H and W rows and columns, L tokens, D features of a token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflow.errors import ConfigError


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Return convolution, BatchNorm and, unless told otherwise, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        *([nn.ReLU()] if relu else []),
    )


class Residual(nn.Module):
    """``relu(branch(x) + shortcut(x))``; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, branch: nn.Module, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = (
            conv(in_channels, out_channels, 1, stride=stride, relu=False) if changes_shape else nn.Identity()
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.relu(self.branch(x_NCHW) + self.shortcut(x_NCHW))


def basic(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Return a residual block of two 3x3 convolutions."""
    branch = nn.Sequential(
        conv(in_channels, out_channels, 3, stride=stride), conv(out_channels, out_channels, 3, relu=False)
    )
    return Residual(branch, in_channels, out_channels, stride)


def bottleneck(in_channels: int, out_channels: int, stride: int) -> Residual:
    """Return a residual block of 1x1, 3x3 (with the stride) and 1x1 convolutions."""
    width = out_channels // 4
    branch = nn.Sequential(
        conv(in_channels, width, 1),
        conv(width, width, 3, stride=stride),
        conv(width, out_channels, 1, relu=False),
    )
    return Residual(branch, in_channels, out_channels, stride)


def classifier(channels: int, num_classes: int) -> tuple[nn.Module, ...]:
    """Return global average pooling and a linear layer."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)


class Inception(nn.Module):
    """Branches of 1x1, 3x3, 5x5 and a pooled 1x1, side by side in the channels: 40 of them."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv(in_channels, 8, 1),
                nn.Sequential(conv(in_channels, 8, 1), conv(8, 16, 3)),
                nn.Sequential(conv(in_channels, 4, 1), conv(4, 8, 5)),
                nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(in_channels, 8, 1)),
            ]
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([branch(x_NCHW) for branch in self.branches], dim=1)


class UNet(nn.Module):
    """Two levels down; up by a transposed convolution, then by nearest-neighbour interpolation."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.down1 = nn.Sequential(conv(in_channels, width, 3), conv(width, width, 3))
        self.down2 = nn.Sequential(conv(width, 2 * width, 3), conv(2 * width, 2 * width, 3))
        self.bottom = nn.Sequential(conv(2 * width, 4 * width, 3), conv(4 * width, 4 * width, 3))
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.merge2 = conv(4 * width, 2 * width, 3)
        self.merge1 = conv(3 * width, width, 3)
        self.out = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        fine = self.down1(x_NCHW)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        middle = self.merge2(torch.cat([middle, self.up2(coarse)], dim=1))
        fine = self.merge1(torch.cat([fine, F.interpolate(middle, scale_factor=2.0, mode="nearest")], dim=1))
        y_NCHW: Tensor = self.out(fine)
        return y_NCHW


class Attention(nn.Module):
    """Multi-head self-attention with an optional boolean mask, True where a key is visible."""

    def __init__(self, embed_dim: int, num_heads: int, *, fused_qkv: bool) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ConfigError(f"embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.qkv = nn.ModuleList(
            [nn.Linear(embed_dim, 3 * embed_dim)]
            if fused_qkv
            else [nn.Linear(embed_dim, embed_dim) for _ in range(3)]
        )
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, x_NLD: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, dim = x_NLD.shape
        projected = [project(x_NLD) for project in self.qkv]
        if len(projected) == 1:
            projected = list(projected[0].chunk(3, dim=-1))
        heads = (batch, length, self.num_heads, dim // self.num_heads)
        q, k, v = (part.reshape(heads).transpose(1, 2) for part in projected)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y_NLD: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return y_NLD


class TransformerBlock(nn.Module):
    """Attention and MLP, each with a residual and a LayerNorm before (pre-norm) or after it (post-norm)."""

    def __init__(
        self, embed_dim: int, num_heads: int, *, pre_norm: bool = True, fused_qkv: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = Attention(embed_dim, num_heads, fused_qkv=fused_qkv)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, 4 * embed_dim), nn.GELU(), nn.Linear(4 * embed_dim, embed_dim)
        )
        self.norm1 = nn.LayerNorm(embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)

    def forward(self, x_NLD: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.pre_norm:
            x_NLD = x_NLD + self.attention(self.norm1(x_NLD), mask)
            x_NLD = x_NLD + self.mlp(self.norm2(x_NLD))
        else:
            x_NLD = self.norm1(x_NLD + self.attention(x_NLD, mask))
            x_NLD = self.norm2(x_NLD + self.mlp(x_NLD))
        return x_NLD


class ViT(nn.Module):
    """Patches and a class token through ``blocks``; the class token makes the logits."""

    def __init__(
        self, image_size: int, patch_size: int, embed_dim: int, blocks: Sequence[nn.Module], num_classes: int
    ) -> None:
        super().__init__()
        num_patches = (image_size // patch_size) ** 2
        self.patches = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.position = nn.Parameter(0.1 * torch.randn(1, num_patches + 1, embed_dim))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(embed_dim)
        self.out = nn.Linear(embed_dim, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        patches_NLD = self.patches(x_NCHW).flatten(2).transpose(1, 2)
        tokens_NLD = torch.cat([self.class_token.expand(len(x_NCHW), -1, -1), patches_NLD], dim=1)
        encoded_NLD = self.norm(self.blocks(tokens_NLD + self.position))
        logits: Tensor = self.out(encoded_NLD[:, 0])
        return logits


class TextEncoder(nn.Module):
    """Word and position embeddings, a LayerNorm, then ``blocks`` under a padding mask."""

    def __init__(self, vocab_size: int, max_length: int, embed_dim: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.word = nn.Embedding(vocab_size, embed_dim)
        self.position = nn.Embedding(max_length, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x_NLD: Tensor = self.norm(self.word(input_ids) + self.position(positions))
        mask = attention_mask[:, None, None, :].to(torch.bool)
        for block in self.blocks:
            x_NLD = block(x_NLD, mask)
        return x_NLD
