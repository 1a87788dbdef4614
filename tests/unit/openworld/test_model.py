"""The open-world classifier: shapes, size, cost, what it exports to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgeflow.errors import ConfigError
from edgeflow.openworld import OpenWorldClassifier, build
from edgeflow.openworld.model import CosineHead

#: Everything that the model may consist of, so that sharding rules and back ends need to know no more.
ALLOWED_OPS = {
    "aten._native_batch_norm_legit_no_training.default",
    "aten.add.Tensor",
    "aten.cat.default",
    "aten.clamp_min.default",
    "aten.conv2d.default",
    "aten.div.Tensor",
    "aten.gelu.default",
    "aten.layer_norm.default",
    "aten.linalg_vector_norm.default",
    "aten.linear.default",
    "aten.max_pool2d.default",
    "aten.mean.dim",
    "aten.mul.Tensor",
    "aten.relu.default",
    "aten.scaled_dot_product_attention.default",
    "aten.transpose.int",
    "aten.view.default",
    "<built-in function getitem>",
}


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def image(model: OpenWorldClassifier, *, batch: int = 1) -> torch.Tensor:
    config = model.config
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, config.in_channels, config.image_size, config.image_size, generator=generator)


@pytest.mark.parametrize(("image_size", "in_channels"), [(28, 1), (32, 3), (8, 1)])
def test_tiny_takes_small_images(image_size: int, in_channels: int) -> None:
    model = build("tiny", num_known=6, num_novel=4, image_size=image_size, in_channels=in_channels).eval()

    with torch.no_grad():
        logits = model(image(model, batch=2))

    assert logits.shape == (2, 10)
    assert logits.abs().max() <= model.config.scale
    assert not torch.equal(logits[0], logits[1])


def test_features_are_what_the_head_reads() -> None:
    model = build("small").eval()
    x = image(model, batch=2)

    with torch.no_grad():
        features = model.features(x)

        assert features.shape == (2, model.config.embed_dim)
        torch.testing.assert_close(model.head(features), model(x))


@pytest.mark.parametrize(
    ("size", "least", "most"), [("tiny", 2e5, 3e5), ("small", 4e6, 5e6), ("base", 18e6, 22e6)]
)
def test_number_of_parameters(size: str, least: float, most: float) -> None:
    assert least <= num_parameters(build(size)) <= most


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_both_halves_are_substantial(size: str) -> None:
    """CNN and Transformer each do 30 to 70 % of the work, so neither kind of cut alone is enough."""
    model = build(size).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image(model))
    cnn = sum(counter.get_flop_counts()["OpenWorldClassifier.cnn"].values())
    encoder = sum(counter.get_flop_counts()["OpenWorldClassifier.encoder"].values())
    config = model.config
    attention = 4 * config.num_tokens**2 * config.embed_dim * config.num_layers  # the counter skips it on CPU

    assert 0.3 <= cnn / (cnn + encoder + attention) <= 0.7


def test_base_has_a_transformer_over_14_by_14_tokens() -> None:
    model = build("base").eval()

    with torch.no_grad():
        assert model.cnn(image(model)).shape == (1, 384, 14, 14)
    assert model.position.shape == (1, 196, 384)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch warns of itself
@pytest.mark.parametrize("size", ["tiny", "base"])
def test_exports_to_common_operators_only(size: str) -> None:
    model = build(size).eval()
    x = image(model)

    exported = torch.export.export(model, (x,), strict=False).run_decompositions({})

    targets = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert targets <= ALLOWED_OPS
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), model(x))


def test_prototypes_are_separate_and_known_come_first() -> None:
    head = CosineHead(8, 3, 2)
    assert {name: tuple(value.shape) for name, value in head.named_parameters()} == {
        "known": (3, 8),
        "novel": (2, 8),
    }
    f = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        logits = head(f)

        expected_known = 10 * torch.cosine_similarity(f[:, None], head.known[None], dim=-1)
        expected_novel = 10 * torch.cosine_similarity(f[:, None], head.novel[None], dim=-1)
    torch.testing.assert_close(logits, torch.cat([expected_known, expected_novel], dim=1))


def test_training_one_half_of_the_head_leaves_the_other_alone() -> None:
    model = build("tiny")
    model.head.known.requires_grad_(False)

    model(image(model, batch=2)).logsumexp(dim=1).sum().backward()

    assert model.head.known.grad is None
    assert model.head.novel.grad is not None
    assert model.head.novel.grad.abs().sum() > 0


def test_no_novel_classes_is_a_closed_world() -> None:
    model = build("tiny", num_known=4, num_novel=0).eval()

    with torch.no_grad():
        assert model(image(model)).shape == (1, 4)


def test_a_zero_feature_has_no_direction_but_an_answer() -> None:
    head = CosineHead(8, 3, 2)

    assert torch.equal(head(torch.zeros(1, 8)), torch.zeros(1, 5))


def test_seed_alone_decides_the_weights() -> None:
    first = build("tiny", seed=7).state_dict()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = build("tiny", seed=7).state_dict()
    other = build("tiny", seed=8).state_dict()

    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.novel"], other["head.novel"])


def test_fresh_activations_stay_near_one() -> None:
    """Else the residual stream drowns the Transformer, and errors in it would not show in the logits."""
    model = build("base").eval()

    with torch.no_grad():
        assert 0.1 < model.cnn(image(model)).std() < 10


def test_bad_size_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="image_size is 8, must be at least 16"):
        build("base", image_size=8)
