"""The least communication of channel splits, as the script that DeeperThings publishes gives it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import pytest

import edgeflow as ef
from edgeflow.cost import predict
from edgeflow.planner.strategies.deeperthings import cheapest
from simulations.traffic.channels import SCRIPT_BYTES, bytes_by_output, chains_of, graph, least_bytes


@pytest.mark.parametrize(("network", "num_devices"), SCRIPT_BYTES)
def test_least_bytes(network: str, num_devices: int) -> None:
    """The script's solver answers in floats, of which it drops what is behind the point: up to 4 bytes."""
    convolutions = [op.name for op in graph(network).operators if "conv" in op.target]

    assert sum(map(len, chains_of(network))) == len(convolutions)
    assert 0 <= least_bytes(network, num_devices) - SCRIPT_BYTES[network, num_devices] <= 4


def test_the_figures_that_are_compared_with() -> None:
    assert dict(SCRIPT_BYTES) == {
        ("yolov2", 6): 377_661_352,
        ("vgg16", 6): 181_637_120,
        ("vgg16", 2): 36_327_424,
        ("alexnet", 6): 9_109_976,
    }


@pytest.mark.parametrize(
    ("network", "num_devices", "spared"),
    [("yolov2", 6, 0.181), ("vgg16", 6, 0.101), ("vgg16", 2, 0.252), ("alexnet", 6, 0.060)],
)
def test_how_much_is_spared_of_splits_by_output_alone(network: str, num_devices: int, spared: float) -> None:
    """As the script says it."""
    share = least_bytes(network, num_devices) / bytes_by_output(network, num_devices)
    assert round(float(1 - share), 3) == spared


@pytest.mark.parametrize("num_devices", [2, 4])
def test_plans_send_what_the_objective_says(num_devices: int) -> None:
    """Where channels divide evenly, to the byte."""
    cluster = ef.Cluster.local([1.0] * num_devices)

    plan = ef.plan(graph("vgg16"), cluster, strategy="deeperthings")

    assert predict(plan, with_events=False).transferred_bytes == least_bytes("vgg16", num_devices)


@pytest.mark.parametrize("num_devices", [2, 3, 6])
def test_no_other_choice_has_fewer_bytes(num_devices: int) -> None:
    """Against every choice for the chain of three convolutions of AlexNet."""
    chain = next(item for item in chains_of("alexnet") if len(item) == 3)
    others, part = num_devices - 1, Fraction(num_devices - 1, num_devices)

    def total(ways: Sequence[str]) -> Fraction:
        """The bytes of ``o``utput, ``i``nput, ``f``irst or ``s``econd, written as the script has them."""
        result = Fraction(0)
        for index, (way, item) in enumerate(zip(ways, chain, strict=True)):
            is_reused = way == "o" and index + 1 < len(ways) and ways[index + 1] in "of"
            reuses = way in "of" and index > 0 and ways[index - 1] == "o"
            if way in "of" and not reuses:
                result += others * item.read_bytes
            if way == "o":
                result += (others if is_reused else part) * item.made_bytes
            if way == "i":
                result += part * item.read_bytes + others * item.made_bytes
            if way == "s":
                result += others * item.made_bytes
        return result

    legal = [
        ways
        for ways in product("oifs", repeat=3)
        if ways[-1] != "f" and all((ways[i] == "s") == (i > 0 and ways[i - 1] == "f") for i in range(3))
    ]
    assert len(legal) == 12
    assert cheapest(chain, num_devices)[1] == min(map(total, legal))
