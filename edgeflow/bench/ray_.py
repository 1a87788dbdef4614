"""The row of Ray: a pipeline of two actors, each with one half of the model on torch eager."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Any

from edgeflow.bench.subject import Job, inputs_of
from edgeflow.errors import ConfigError
from edgeflow.testing import zoo


class Half:
    """One half of the model, held by an actor."""

    def __init__(self, model: str, number: int, core: int) -> None:
        import torch

        from edgeflow.bench.halves import half_of, split

        os.sched_setaffinity(0, [core])
        torch.set_num_threads(1)
        example = zoo.build(model)
        self._graph = split(example, half_of(example)).split_gm
        self._number = number

    def run(self, inputs: tuple[Any, ...], first: Any = None) -> Any:
        """Run this half; the second half takes the output of the first."""
        import torch
        from torch import fx

        is_first = self._number == 0

        class Walk(fx.Interpreter):
            made: Any = None

            def run_node(self, node: fx.Node) -> Any:
                if node.target == "submod_pp_0":
                    self.made = super().run_node(node) if is_first else first
                    return self.made
                if is_first and self.made is not None:
                    return None  # the rest is the second half
                return super().run_node(node)

        walk = Walk(self._graph)
        with torch.no_grad():
            out = walk.run(*inputs)
        return walk.made if is_first else out


class Ray:
    def __init__(self, job: Job, rank: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("ray is not installed: pip install 'edgeflow-inference[ray]'")
        import ray

        self._ray: Any = ray
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=256 << 20,
        )
        actor: Any = ray.remote(num_cpus=1)(Half)
        self._first, self._second = [actor.remote(job.model, half, job.cores[half]) for half in (0, 1)]
        # Pass inputs by value: an input in the object store would add a second wait.
        self._inputs = inputs_of(zoo.build(job.model))

    def request(self) -> Any:
        return self._ray.get(self._begin())

    def stream(self, count: int) -> None:
        self._ray.get([self._begin() for _ in range(count)])

    def _begin(self) -> Any:
        return self._second.run.remote(self._inputs, self._first.run.remote(self._inputs))

    def close(self) -> None:
        self._ray.shutdown()
