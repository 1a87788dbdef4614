"""Named models: they run, their answers depend on what they are given, they can be exported."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from edgeflow.errors import ConfigError
from edgeflow.testing import zoo, zoo_vision
from edgeflow.testing.zoo_text import TEXT

#: Transformers that are quickly built.
SMALL_TEXT = [name for name in TEXT if name.endswith("-small") or not name.startswith("hf-")]
FAST = [
    "openworld-tiny",
    "openworld-tiny-28",
    "tiny-resnet",
    "tiny-vit",
    "tiny-vit-fused",
    "tiny-bert",
    "unet",
    "concat-dag",
    "mlp",
    "hf-resnet-small",
    *SMALL_TEXT,
    *(name for name in zoo_vision.VISION if name.endswith("-small")),
]


def built(name: str) -> zoo.Example:
    if name.startswith("hf-"):
        pytest.importorskip("transformers")
    return zoo.build(name)


def answer(example: zoo.Example, *changed: Tensor) -> Tensor:
    """Return the first tensor of the answer, with ``changed`` in place of the first inputs."""
    values = [*example.args, *example.kwargs.values()]
    values[: len(changed)] = changed
    args, kwargs = values[: len(example.args)], values[len(example.args) :]
    with torch.no_grad():
        result: Any = example.module(*args, **dict(zip(example.kwargs, kwargs, strict=True)))
    return result if isinstance(result, Tensor) else next(iter(result.values()))


@pytest.mark.parametrize("name", FAST)
def test_answers_are_not_degenerate(name: str) -> None:
    """Finite, of ordinary size, different from place to place, and different for another input."""
    example = built(name)
    first_input = next(iter([*example.args, *example.kwargs.values()]))

    y = answer(example)
    other = answer(example, first_input.flip(-1))

    assert y.isfinite().all()
    assert 0.1 < y.std() < 10
    assert (y - other).abs().max() > 0.02 * y.abs().max()


@pytest.mark.parametrize("name", FAST)
def test_the_same_every_time(name: str) -> None:
    first, second = built(name), built(name)

    assert not first.module.training
    assert torch.equal(answer(first), answer(second))


@pytest.mark.parametrize("name", [name for name in FAST if name not in SMALL_TEXT])
def test_can_be_exported(name: str) -> None:
    example = built(name)

    exported = torch.export.export(example.module, example.args, example.kwargs, strict=False)

    assert len(list(exported.graph.nodes)) > 3


MASKED = ["tiny-bert", *(name for name in SMALL_TEXT if name.split("-")[1] in ("bert", "distilbert", "t5"))]


@pytest.mark.parametrize("name", MASKED)
def test_attention_mask_matters(name: str) -> None:
    example = built(name)
    ids, mask = [*example.args, *example.kwargs.values()]
    assert 0 < int(mask.sum()) < mask.numel()

    y = answer(example)
    unmasked = answer(example, ids, torch.ones_like(mask))

    assert (y - unmasked).abs().max() > 0.02 * y.abs().max()


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown model 'resnet51'; known models: openworld-tiny, .*hf-bert"
    ):
        zoo.build("resnet51")


def test_missing_transformers_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(ConfigError, match="pip install transformers"):
        zoo.build("hf-bert-small")


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="nothing to import")
def test_listing_imports_no_transformers() -> None:
    """It takes seconds to import, and our own models do without."""
    script = (
        "import sys; from edgeflow.testing import zoo; zoo.build('mlp'); print('transformers' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "False"


def test_random_images_differ_from_place_to_place() -> None:
    x = zoo.random_image(32, batch=2, seed=1)

    assert x.shape == (2, 3, 32, 32)
    assert 0.5 < x.std() < 2
    assert x[0, 0].unfold(0, 8, 8).unfold(1, 8, 8).mean(dim=(2, 3)).std() > 0.3
    assert torch.equal(x, zoo.random_image(32, batch=2, seed=1))
