"""Graphs drawn from all rules: whatever operators meet, whatever the plan, each result is what torch makes.

A graph is a chain of random cases of the families that rules are tested by (`tests.numerics.families`). One
case waits for the one before by a mean that is multiplied by zero and added to an input: it changes no value,
so that rounding cannot tip an operator that compares or rounds, and yet it is a sum that devices share. Each
result is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
import pytest

import edgeflow as ef
from edgeflow.cost import CostModel
from edgeflow.errors import InfeasiblePlanError
from edgeflow.graph.ir import Array, ModelGraph, Operator, Structure, TensorRef, TensorSpec, Value
from edgeflow.graph.verify import verify_graph
from edgeflow.kernels import make_executor
from edgeflow.plan import Decision, Plan, Stage, Weighed, verify_plan
from edgeflow.planner.task import Task
from edgeflow.rank.local import run_programs
from edgeflow.testing.random_models import random_cluster
from tests.numerics.cases import Case, check_equal, draw_case
from tests.numerics.families import FAMILIES
from tests.property.plans import random_layout_stages, random_stages
from tests.property.programs import check_programs

_NUM_CASES = 6
_PLANS_PER_GRAPH = 3
_FLOATS = ("float32", "float64")
_CHANCE_OF_WEIGHT = 0.3


class _Builder:
    """A graph under construction."""

    def __init__(self, rng: Random) -> None:
        self.specs: dict[str, TensorSpec] = {}
        self.operators: list[Operator] = []
        self.inputs: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}
        self.cases: dict[str, Case] = {}
        self._rng = rng
        self._last = ""

    def add(self, case: Case) -> None:
        """Append a case; its result waits for that of the case before."""
        prefix = f"c{len(self.cases)}_"
        for name, spec in case.specs.items():
            self.specs[prefix + name] = spec
        for name, tensor in case.tensors.items():
            held = self.weights if self._rng.random() < _CHANCE_OF_WEIGHT else self.inputs
            held[prefix + name] = tensor
        renamed = {name: prefix + name for name in case.specs} | self._joint(prefix, case)
        outputs = tuple(name and prefix + name for name in case.op.outputs)
        arguments = tuple((key, _renamed(value, renamed)) for key, value in case.op.arguments)
        self._append(prefix + "op", case.op.target, arguments, outputs)
        answer = next(name for name in outputs if name)
        self.cases[answer] = case
        is_float = self.specs[answer].dtype in _FLOATS and np.isfinite(case.expected).all()
        self._last = answer if is_float else ""

    def _joint(self, prefix: str, case: Case) -> dict[str, str]:
        """Let an input of the case wait for the last result; return its name by that of the input."""
        waiting = [
            name
            for name in case.tensors
            if case.specs[name].dtype in _FLOATS and case.specs[name].ndim and prefix + name in self.inputs
        ]
        if not self._last or not waiting:
            return {}
        name = self._rng.choice(waiting)
        source = self.specs[self._last]
        scalar = TensorSpec(shape=(), dtype=source.dtype)
        mean, zero, joined = prefix + "mean", prefix + "zero", prefix + "joined"
        self.specs |= {mean: scalar, zero: scalar, joined: case.specs[name]}
        self._append(mean, "aten.mean.default", (("self", TensorRef(self._last)), ("dtype", None)), (mean,))
        self._append(zero, "aten.mul.Scalar", (("self", TensorRef(mean)), ("other", 0.0)), (zero,))
        added = (("self", TensorRef(prefix + name)), ("other", TensorRef(zero)), ("alpha", 1))
        self._append(joined, "aten.add.Tensor", added, (joined,))
        return {name: joined}

    def _append(
        self, name: str, target: str, arguments: tuple[tuple[str, Value], ...], outputs: tuple[str, ...]
    ) -> None:
        self.operators.append(Operator(name=name, target=target, arguments=arguments, outputs=outputs))

    def graph(self, name: str) -> ModelGraph:
        tensor = Structure(kind="tensor")
        args = Structure(kind="tuple", items=(tensor,) * len(self.inputs))
        graph = ModelGraph(
            name=name,
            operators=tuple(self.operators),
            specs=self.specs,
            inputs=tuple(self.inputs),
            outputs=tuple(self.cases),
            weights=self.weights,
            input_structure=Structure(kind="tuple", items=(args, Structure(kind="dict"))),
            output_structure=Structure(kind="tuple", items=(tensor,) * len(self.cases)),
        )
        verify_graph(graph)
        return graph


def _renamed(value: Value, names: Mapping[str, str]) -> Value:
    if isinstance(value, TensorRef):
        return TensorRef(names[value.name])
    if isinstance(value, tuple):
        return tuple(_renamed(item, names) for item in value)  # type: ignore[misc]
    return value


def drawn(seed: int) -> tuple[ModelGraph, dict[str, Array], dict[str, Case]]:
    """Return a graph, values of its inputs, and the case behind each answer."""
    builder = _Builder(Random(seed))
    for index, name in enumerate(_families(seed)):
        builder.add(draw_case(name, FAMILIES[name], seed=seed, index=index)[0])
    return builder.graph(f"fuzz{seed}"), builder.inputs, builder.cases


def _families(seed: int) -> list[str]:
    """Return the families of a graph: consecutive seeds deal out all of them before any comes again."""
    round_, place = divmod(seed, -(-len(FAMILIES) // _NUM_CASES))
    names = sorted(FAMILIES)
    Random(f"round {round_}").shuffle(names)
    return names[place * _NUM_CASES : (place + 1) * _NUM_CASES]


def check(plan: Plan, inputs: Mapping[str, Array], cases: Mapping[str, Case], what: str) -> None:
    """Check that a plan is legal, and that each answer is what torch made of its case alone."""
    verify_plan(plan)
    for way in plan.ways:
        check_programs(plan.graph, way.programs)
        answers = run_programs(plan.graph, way.programs, inputs, make_executor("torch"))
        for name, case in cases.items():
            try:
                check_equal(case, answers[name], case.expected)
            except AssertionError as error:
                raise AssertionError(f"{plan.graph.name}, {what}: {name} of\n  {case}\n{error}") from error


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 1000))]
)
def test_any_operators_under_any_plan(seed: int) -> None:
    graph, inputs, cases = drawn(seed)
    for index in range(_PLANS_PER_GRAPH):
        rng = Random(seed * 1000 + index)
        cluster = random_cluster(seed * 1000 + index)
        task = Task(graph=graph, cluster=cluster, cost=CostModel(cluster=cluster))
        drawn_stages: dict[str, tuple[Stage, ...]] = {
            "layouts": random_layout_stages(rng, task),
            "stages": random_stages(rng, graph, cluster),
        }
        for what, stages in drawn_stages.items():
            plan = Plan(Decision(graph=graph, cluster=cluster, stages=stages), Weighed(strategy="random"))
            check(plan, inputs, cases, f"{what} of plan {index}")
        name = rng.choice(list(ef.strategies()))
        try:
            plan = ef.plan(graph, cluster, strategy=name)
        except InfeasiblePlanError as error:
            assert error.constraint == "plans"
            continue
        check(plan, inputs, cases, f"strategy {name} of plan {index}")


def test_every_family_is_drawn_and_most_cases_are_joined() -> None:
    graphs = [drawn(seed) for seed in range(40)]

    families = {case.origin.split("'")[1] for _, _, cases in graphs for case in cases.values()}
    joints = sum(op.name.endswith("_joined") for graph, _, _ in graphs for op in graph.operators)
    assert families == set(FAMILIES)
    assert joints > 40
