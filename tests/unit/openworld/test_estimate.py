"""The number of classes, of clouds whose number is known, and of the digits."""

from __future__ import annotations

import pytest
import torch

from edgeflow.errors import ConfigError
from edgeflow.openworld.estimate import estimate_num_classes


@pytest.mark.parametrize(("num_classes", "num_known"), [(4, 2), (7, 3), (9, 5)])
def test_clouds_are_counted(num_classes: int, num_known: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    classes = torch.arange(num_classes).repeat_interleave(40)
    features = torch.eye(12)[classes] + 0.1 * torch.randn(len(classes), 12, generator=generator)
    labelled = ((classes < num_known) & (torch.rand(len(classes), generator=generator) < 0.5)).nonzero()[:, 0]

    found = estimate_num_classes(features, labelled, classes[labelled], largest=14)

    assert found.num_classes == num_classes
    assert list(found.agreement) == list(range(num_known, 15))


def test_there_must_be_something_to_try() -> None:
    with pytest.raises(ConfigError, match="no number of classes from 2 to 1"):
        estimate_num_classes(torch.randn(4, 2), torch.tensor([0, 1]), torch.tensor([0, 1]), largest=1)
