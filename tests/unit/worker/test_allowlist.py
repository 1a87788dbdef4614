"""The allow-list against torch's own schemas: nothing on it writes to its arguments or draws numbers."""

from __future__ import annotations

import pytest

from edgeflow.errors import UnsupportedOperatorError
from edgeflow.sharding.cut import Step
from edgeflow.worker.allowlist import ALLOWED_NAMES, PURE_ONLY_WITH, check_steps, is_allowed

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", sorted(ALLOWED_NAMES))
def test_every_allowed_overload_is_pure(name: str) -> None:
    packet = getattr(torch.ops.aten, name)
    allowed = [o for o in packet.overloads() if is_allowed(f"aten.{name}.{o}")]
    assert allowed, f"no overload of {name} is allowed"
    for overload in allowed:
        schema = getattr(packet, overload)._schema
        assert not schema.is_mutable, schema
        if name not in PURE_ONLY_WITH:
            assert torch.Tag.nondeterministic_seeded not in getattr(packet, overload).tags, schema


@pytest.mark.parametrize(
    "target",
    [
        "",
        "aten.conv2d",
        "aten..default",
        "aten.conv2d.default.x",
        "aten.conv2d.default\n",
        "aten.add_.Tensor",
        "aten.add.out",
        "aten.max.dim_max",
        "aten.sort.values_stable",
        "aten.rand.default",
        "aten.bernoulli.default",
        "aten.from_file.default",
        "aten.empty.memory_format",
        "aten.set_.source_Tensor",
        "aten.__class__.default",
        "prims.add.default",
        "os.system.default",
    ],
)
def test_targets_that_are_refused(target: str) -> None:
    assert not is_allowed(target)
    with pytest.raises(UnsupportedOperatorError, match=r"stem\.conv: operator") as caught:
        check_steps([Step(target=target, arguments=())], where="stem.conv")
    assert caught.value.operator == target


def test_operators_that_are_pure_only_sometimes() -> None:
    attention = "aten.scaled_dot_product_attention.default"
    check_steps([Step(target=attention, arguments=(("dropout_p", 0.0),))], where="x")
    with pytest.raises(UnsupportedOperatorError, match=r"dropout_p=0\.0, not 0\.5"):
        check_steps([Step(target=attention, arguments=(("dropout_p", 0.5),))], where="x")
