"""Shapes of the open-world classifier, and what is refused with which numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeflow.errors import ConfigError
from edgeflow.openworld import SIZES, StageConfig, config_for


@pytest.mark.parametrize(
    ("size", "image_size", "rows"),
    [
        ("tiny", 28, 7),
        ("tiny", 32, 8),
        ("tiny", 30, 8),
        ("small", 96, 12),
        ("base", 224, 14),
        ("base", 250, 16),
    ],
)
def test_feature_map_size(size: str, image_size: int, rows: int) -> None:
    config = config_for(size, image_size=image_size)

    assert config.feature_map_size == rows
    assert config.num_tokens == rows**2


@pytest.mark.parametrize("size", SIZES)
def test_number_of_heads_suits_unequal_shares(size: str) -> None:
    """Three devices of speeds 3, 2 and 1 want at least six heads."""
    config = SIZES[size]

    assert config.num_heads >= 6
    assert config.embed_dim % config.num_heads == 0


def test_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'huge'; there are 5: micro, mini, tiny, small, base"):
        config_for("huge")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_known": 0}, r"num_known is 0, must be a whole number and at least 1"),
        ({"num_novel": -3}, r"num_novel is -3, .* at least 0"),
        ({"num_novel": 2.5}, r"num_novel is 2\.5, must be a whole number"),
        ({"image_size": 3}, r"image_size is 3, must be at least 4, the product of the strides"),
        ({"in_channels": 0}, r"in_channels is 0"),
        ({"stem_kernel": 4}, r"stem_kernel is 4, must be odd"),
        ({"stages": ()}, r"at least 1 stage"),
        ({"stages": (StageConfig(channels=8, num_blocks=0),)}, r"stages\[0\]\.num_blocks is 0"),
        ({"num_heads": 7}, r"embed_dim 96 is not a multiple of num_heads 7"),
        ({"scale": 0.0}, r"scale is 0\.0, must be greater than 0"),
        ({"scale": float("nan")}, r"scale is nan"),
    ],
)
def test_bad_number_is_refused_with_the_number(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SIZES["tiny"], **changes)
