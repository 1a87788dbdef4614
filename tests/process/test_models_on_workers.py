"""Whole models on real worker processes: whatever the plan, the answer is the module's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import edgeflow as ef
from edgeflow.coordinator.processes import LocalWorkers
from edgeflow.cost import CostModel

pytest.importorskip("torch")

from tests.numerics.test_models import SPEEDS, TOLERANCE, loaded, tensors_of
from tests.strategies import STRATEGIES

_SMALL = ("openworld-tiny", "tiny-bert")
_LARGE = ("openworld-base", "hf-resnet50", "hf-vit-base", "hf-bert-base")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Five workers, one thread each; how long they take is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFLOW_CACHE_DIR", str(tmp_path_factory.mktemp("weights")))
        workers = LocalWorkers(dict.fromkeys(range(len(SPEEDS)), 1.0), threads=1, executor="torch")
    try:
        yield [workers.addresses[rank] for rank in range(len(SPEEDS))]
    finally:
        workers.close()


@pytest.mark.parametrize("model", [*_SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in _LARGE)])
def test_every_strategy_on_one_to_five_workers_answers_what_the_module_does(
    model: str, addresses: list[str]
) -> None:
    graph, example, expected = loaded(model)
    for num_devices in (1, 2, 3, 5):
        # A network that costs nothing: `auto` would leave small models on one device otherwise.
        cluster = ef.Cluster.local(SPEEDS[:num_devices], bandwidth="100 Gbit/s", latency=0)
        cost = CostModel(cluster=cluster, message_overhead_s=0.0)
        for strategy in STRATEGIES:
            plan = ef.plan(graph, cluster, strategy=strategy, cost=cost)
            with ef.deploy(plan, workers=addresses[:num_devices]) as session:
                found = dict(tensors_of(session.run(*example.args, **example.kwargs)))
            assert found.keys() == expected.keys()
            for name, theirs in expected.items():
                difference = (found[name] - theirs).abs().max().item() / theirs.abs().max().item()
                assert difference <= TOLERANCE, f"{strategy} on {num_devices} devices, {name}"
