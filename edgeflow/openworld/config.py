"""Shapes of the open-world classifier; pure data, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edgeflow.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """Residual blocks of one width; the first of them has the stride.

    Attributes:
        channels: Output channels of every block.
        num_blocks: Residual blocks, two 3x3 convolutions each.
        stride: Rows (and columns) of input per row of output.
    """

    channels: int
    num_blocks: int
    stride: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWorldConfig:
    """The shape of an `OpenWorldClassifier`.

    Attributes:
        num_known: Classes with labelled examples; at least 1.
        num_novel: Classes without labelled examples; 0 makes a closed-world classifier.
        image_size: Rows and columns of an image, in pixels.
        in_channels: 1 for grey images, 3 for colour.
        stem_channels: Output channels of the first convolution.
        stem_kernel: Its kernel, odd.
        stem_stride: Its stride.
        stem_pool: Whether a 3x3 max-pool of stride 2 follows.
        stages: The residual part, from fine to coarse.
        embed_dim: D, features of a token.
        num_heads: A, attention heads; divides ``embed_dim``.
        num_layers: Transformer encoder blocks.
        mlp_ratio: Hidden features of an MLP, as a multiple of ``embed_dim``.
        scale: Factor on the cosines; logits lie in ``[-scale, scale]``.

    Raises:
        ConfigError: If a number is out of range, or does not fit another one.

    Examples:
        >>> config_for("tiny", image_size=28, in_channels=1).num_tokens
        49
    """

    num_known: int
    num_novel: int
    image_size: int
    in_channels: int
    stem_channels: int
    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    stages: tuple[StageConfig, ...]
    embed_dim: int
    num_heads: int
    num_layers: int
    mlp_ratio: int = 4
    scale: float = 10.0

    def __post_init__(self) -> None:
        for name, value, least in self._bounded():
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} is {value!r}, must be a whole number and at least {least}")
        if self.stem_kernel % 2 == 0:
            raise ConfigError(f"stem_kernel is {self.stem_kernel}, must be odd")
        if not self.stages:
            raise ConfigError("stages is empty, the model needs at least 1 stage of residual blocks")
        if self.embed_dim % self.num_heads:
            raise ConfigError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        if not self.scale > 0:
            raise ConfigError(f"scale is {self.scale}, must be greater than 0")
        if self.image_size < self.total_stride:
            raise ConfigError(
                f"image_size is {self.image_size}, must be at least {self.total_stride}, "
                "the product of the strides of this model"
            )

    def _bounded(self) -> list[tuple[str, int, int]]:
        """Return ``(name, value, smallest allowed value)`` of every whole number."""
        bounds = [
            ("num_known", self.num_known, 1),
            ("num_novel", self.num_novel, 0),
            ("image_size", self.image_size, 1),
            ("in_channels", self.in_channels, 1),
            ("stem_channels", self.stem_channels, 1),
            ("stem_kernel", self.stem_kernel, 1),
            ("stem_stride", self.stem_stride, 1),
            ("embed_dim", self.embed_dim, 1),
            ("num_heads", self.num_heads, 1),
            ("num_layers", self.num_layers, 1),
            ("mlp_ratio", self.mlp_ratio, 1),
        ]
        for index, stage in enumerate(self.stages):
            bounds += [
                (f"stages[{index}].channels", stage.channels, 1),
                (f"stages[{index}].num_blocks", stage.num_blocks, 1),
                (f"stages[{index}].stride", stage.stride, 1),
            ]
        return bounds

    @property
    def num_classes(self) -> int:
        """K, known and novel."""
        return self.num_known + self.num_novel

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the CNN in order."""
        pool = (2,) if self.stem_pool else ()
        return (self.stem_stride, *pool, *(stage.stride for stage in self.stages))

    @property
    def total_stride(self) -> int:
        """Pixels per token, along rows and along columns."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    @property
    def feature_map_size(self) -> int:
        """Rows (and columns) of the feature map that becomes tokens."""
        size = self.image_size
        for stride in self.strides:
            size = -(-size // stride)  # an odd kernel padded by its half keeps ceil(size / stride) rows
        return size

    @property
    def num_tokens(self) -> int:
        """L, the positions of the last feature map."""
        return self.feature_map_size**2


#: Shapes by name, each with the images it is meant for. Six heads go 3:2:1 over three unequal devices and 4:2
#: over two; eight go 4:3:1.
SIZES: Final[dict[str, OpenWorldConfig]] = {
    # Trained on 8x8 digits and on 28x28 pictures in minutes of one core: both mix 4x4 tokens.
    "micro": OpenWorldConfig(
        num_known=5,
        num_novel=5,
        image_size=8,
        in_channels=1,
        stem_channels=32,
        stem_kernel=3,
        stem_stride=1,
        stem_pool=False,
        stages=(
            StageConfig(channels=48, num_blocks=1),
            StageConfig(channels=96, num_blocks=1, stride=2),
        ),
        embed_dim=96,
        num_heads=6,
        num_layers=2,
        mlp_ratio=2,
    ),
    "mini": OpenWorldConfig(
        num_known=5,
        num_novel=5,
        image_size=28,
        in_channels=1,
        stem_channels=32,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
        stages=(
            StageConfig(channels=48, num_blocks=1, stride=2),
            StageConfig(channels=96, num_blocks=1, stride=2),
        ),
        embed_dim=96,
        num_heads=6,
        num_layers=2,
        mlp_ratio=2,
    ),
    "tiny": OpenWorldConfig(
        num_known=5,
        num_novel=5,
        image_size=32,
        in_channels=3,
        stem_channels=32,
        stem_kernel=3,
        stem_stride=1,
        stem_pool=False,
        stages=(
            StageConfig(channels=32, num_blocks=1, stride=2),
            StageConfig(channels=64, num_blocks=1, stride=2),
        ),
        embed_dim=96,
        num_heads=6,
        num_layers=2,
        mlp_ratio=2,
    ),
    "small": OpenWorldConfig(
        num_known=50,
        num_novel=50,
        image_size=96,
        in_channels=3,
        stem_channels=32,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
        stages=(
            StageConfig(channels=48, num_blocks=2),
            StageConfig(channels=96, num_blocks=2, stride=2),
            StageConfig(channels=192, num_blocks=2, stride=2),
        ),
        embed_dim=192,
        num_heads=8,
        num_layers=6,
    ),
    "base": OpenWorldConfig(
        num_known=50,
        num_novel=50,
        image_size=224,
        in_channels=3,
        stem_channels=64,
        stem_kernel=7,
        stem_stride=2,
        stem_pool=True,
        stages=(
            StageConfig(channels=64, num_blocks=3),
            StageConfig(channels=128, num_blocks=4, stride=2),
            StageConfig(channels=256, num_blocks=3, stride=2),
        ),
        embed_dim=384,
        num_heads=6,
        num_layers=8,
    ),
}


def config_for(
    size: str,
    *,
    num_known: int | None = None,
    num_novel: int | None = None,
    image_size: int | None = None,
    in_channels: int | None = None,
) -> OpenWorldConfig:
    """Return the configuration called ``size``, with other classes or images where given.

    Raises:
        ConfigError: If there is no such size, or a number is out of range.
    """
    if size not in SIZES:
        raise ConfigError(f"unknown model size {size!r}; there are {len(SIZES)}: {', '.join(SIZES)}")
    given = {
        "num_known": num_known,
        "num_novel": num_novel,
        "image_size": image_size,
        "in_channels": in_channels,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(SIZES[size], **changes)  # type: ignore[arg-type]  # every one of the four is an int
