"""The networks that tests and demos use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgeflow.errors import ConfigError
from edgeflow.testing import models

SMALL: dict[str, Callable[..., nn.Module]] = {
    "tiny_resnet": models.tiny_resnet,
    "tiny_vit": models.tiny_vit,
    "tiny_bert_like": models.tiny_bert_like,
    "unet": models.unet,
    "concat_dag": models.concat_dag,
    "mlp": models.mlp,
}


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet50_has_the_published_size() -> None:
    assert num_parameters(models.resnet50()) == 25_557_032


def test_vgg16_has_the_published_size_but_for_its_hidden_layers() -> None:
    """138,357,544 with 4,096 hidden features; counted here with 64, to stay fast."""
    published = 138_357_544
    linears = [(25_088, 4096), (4096, 4096), (4096, 1000)]
    convolutions = published - sum(fan_in * fan_out + fan_out for fan_in, fan_out in linears)
    small = [(25_088, 64), (64, 64), (64, 1000)]

    expected = convolutions + sum(fan_in * fan_out + fan_out for fan_in, fan_out in small)
    assert num_parameters(models.vgg16(hidden=64)) == expected


def test_resnet50_strides_in_the_3x3_convolution() -> None:
    strided = [
        module.kernel_size
        for module in models.resnet50(num_classes=2).modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    ]

    assert strided == [(7, 7)] + [(3, 3), (1, 1)] * 3


@pytest.mark.parametrize("name", SMALL)
def test_seed_alone_decides_the_weights(name: str) -> None:
    before = torch.get_rng_state()
    first, second, other = (SMALL[name](seed=seed).state_dict() for seed in (3, 3, 4))

    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", SMALL)
def test_ready_for_inference(name: str) -> None:
    assert not any(module.training for module in SMALL[name]().modules())


def test_batch_norm_is_not_the_identity() -> None:
    """Else folding it wrongly would go unnoticed."""
    norms = [module for module in models.tiny_resnet().modules() if isinstance(module, nn.BatchNorm2d)]

    for norm in norms:
        for value in (
            norm.get_buffer("running_mean"),
            norm.get_buffer("running_var"),
            norm.weight,
            norm.bias,
        ):
            assert value.std() > 0.01


def test_fused_qkv_is_one_projection() -> None:
    shapes = {tuple(p.shape) for p in models.tiny_vit(fused_qkv=True).parameters()}

    assert (3 * 96, 96) in shapes
    assert (3 * 96, 96) not in {tuple(p.shape) for p in models.tiny_vit().parameters()}


def test_padding_is_not_looked_at() -> None:
    model = models.tiny_bert_like()
    ids = torch.arange(1, 11)[None]
    mask = torch.tensor([[1] * 7 + [0] * 3])
    changed = ids.clone()
    changed[:, 7:] += 20

    with torch.no_grad():
        torch.testing.assert_close(model(ids, mask)[:, :7], model(changed, mask)[:, :7])
        everything = torch.ones_like(mask)
        assert not torch.allclose(model(ids, everything)[:, :7], model(changed, everything)[:, :7], atol=1e-3)


def test_unet_keeps_rows_and_columns() -> None:
    with torch.no_grad():
        assert models.unet()(torch.zeros(1, 3, 12, 20)).shape == (1, 2, 12, 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.mlp([3]), r"at least 2 sizes .* got 1"),
        (lambda: models.tiny_vit(image_size=30), r"image_size 30 is not a multiple of patch_size 8"),
        (lambda: models.tiny_vit(num_heads=5), r"embed_dim 96 is not a multiple of num_heads 5"),
    ],
)
def test_what_does_not_divide_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
