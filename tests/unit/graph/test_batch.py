"""A model for several requests at once: what is accepted, what is refused and why, and the way in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.errors import ConfigError
from edgeflow.graph.batch import join, split

torch = pytest.importorskip("torch")

from edgeflow.testing import models  # noqa: E402


class Does(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def test_the_graph_of_a_batch_is_longer_in_dim_0_alone() -> None:
    batch = ef.capture_batch(models.tiny_resnet(), (torch.zeros(1, 3, 32, 32),), size=3)
    assert batch.graph.specs[batch.graph.inputs[0]].shape == (3, 3, 32, 32)
    assert batch.graph.specs[batch.graph.outputs[0]].shape == (3, 10)
    assert batch.single.specs[batch.single.inputs[0]].shape == (1, 3, 32, 32)


def test_tokens_masks_and_keywords() -> None:
    module = models.tiny_bert_like()
    tokens, mask = torch.arange(16).reshape(1, 16), torch.ones(1, 16, dtype=torch.int64)
    batch = ef.capture_batch(module, kwargs={"input_ids": tokens, "attention_mask": mask}, size=2)
    assert {batch.graph.specs[name].shape for name in batch.graph.inputs} == {(2, 16)}


X = torch.arange(12.0).reshape(2, 6)
REFUSED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "a sum over the requests": (
        lambda x: x.sum(0),
        (X,),
        r"output '\w+' is float32 \[6\] for one request and float32 \[6\] for 3",
    ),
    "requests beside each other": (
        lambda x: x.t(),
        (X,),
        r"output '\w+' is float32 \[6, 2\] for one request and float32 \[6, 6\] for 3",
    ),
    "an output that no input makes": (
        lambda x: (x * 2, torch.ones(2, 6)),
        (X,),
        r"output '\w+' is float32 \[2, 6\] for one request and float32 \[2, 6\] for 3",
    ),
    "one output a row": (lambda x: list(x.unbind(0)), (X,), "2 outputs for one request and 6 for 3"),
    "a number": (lambda x, y: x * y, (X, torch.tensor(2.0)), "an input is a number"),
    "a fixed size": (
        lambda x: x.reshape(2, 6) * 2,
        (X,),
        "Does cannot be captured for 3 requests at once: torch.export cannot capture",
    ),
    # The shapes of these fit.
    "a softmax over the requests": (lambda x: x.softmax(0), (X,), "does not keep requests apart"),
    "requests interleaved": (
        lambda x: x.reshape(2, -1, 6).transpose(0, 1).reshape(-1, 6) * 2,
        (X,),
        "does not keep requests apart: its output 'mul'",
    ),
    "a sequence in dim 0": (lambda x: (x @ x.t()).softmax(-1) @ x, (X,), "does not keep requests apart"),
    "equal tokens": (
        lambda x: x.cumsum(0),
        (torch.zeros(2, dtype=torch.int64),),
        "does not keep requests apart",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_batch_is_refused(what: str) -> None:
    function, args, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        ef.capture_batch(Does(function), args, size=3)


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 request, got 0"):
        ef.capture_batch(Does(lambda x: x * 2), (X,), size=0)


@pytest.fixture(scope="module")
def two_outputs() -> Any:
    module = Does(lambda x, y: {"sum": x + y, "first": x[:, 0]})
    return ef.capture_batch(module, (X, X.clone()), size=3)


def request(value: float) -> dict[str, Any]:
    return {"args_0": np.full((2, 6), value, np.float32), "args_1": np.full((2, 6), 10 * value, np.float32)}


def test_the_last_request_stands_in_for_those_that_are_missing(two_outputs: Any) -> None:
    joined = join(two_outputs, [request(1), request(2)])
    assert [joined["args_0"][row, 0] for row in range(6)] == [1, 1, 2, 2, 2, 2]
    assert [joined["args_1"][row, 5] for row in range(6)] == [10, 10, 20, 20, 20, 20]


def test_each_request_gets_its_rows_and_padding_nobody(two_outputs: Any) -> None:
    sums = np.arange(36, dtype=np.float32).reshape(6, 6)
    answers = split(two_outputs, [sums, sums[:, 0]], 2)
    of_sum, of_first = two_outputs.single.outputs
    assert len(answers) == 2
    for index, answer in enumerate(answers):
        np.testing.assert_array_equal(answer[of_sum], sums[2 * index : 2 * index + 2])
        np.testing.assert_array_equal(answer[of_first], sums[2 * index : 2 * index + 2, 0])


@pytest.mark.parametrize("count", [0, 4])
def test_no_more_and_no_less_than_fits(two_outputs: Any, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} requests for a batch of 3"):
        join(two_outputs, [request(1)] * count)
