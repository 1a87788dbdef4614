"""Rivals that run on ``torch.distributed`` over gloo, with torch eager.

The Megatron split is written out by hand: columns of the projections into attention and of the first product
of the MLP, rows of those that follow, one ``all_reduce`` after each pair (Shoeybi et al., arXiv:1909.08053).
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgeflow.bench.halves import half_of, split
from edgeflow.bench.subject import Job
from edgeflow.errors import ConfigError
from edgeflow.testing import zoo

#: Linear modules of encoders of the ``transformers`` package, whose attention takes any number of heads.
COLUMNS: Final = re.compile(
    r"(q_proj|k_proj|v_proj|self\.query|self\.key|self\.value|fc1|intermediate\.dense)$"
)
ROWS: Final = re.compile(r"(o_proj|out_proj|fc2|output\.dense)$")


class _Meeting:
    """A group of processes that are connected over gloo."""

    def __init__(self, job: Job, rank: int) -> None:
        self.example = zoo.build(job.model)
        self.size = job.row.processes
        dist.init_process_group(
            "gloo",
            init_method=f"tcp://127.0.0.1:{job.port}",
            rank=rank,
            world_size=self.size,
            timeout=datetime.timedelta(seconds=120),
        )

    def wait_for_all(self) -> None:
        dist.barrier()

    def request(self) -> Any:
        with torch.no_grad():
            return self.example.module(*self.example.args, **self.example.kwargs)

    def stream(self, count: int) -> None:
        for _ in range(count):
            self.request()

    def close(self) -> None:
        dist.destroy_process_group()


class RowParallel(nn.Module):
    """A row-parallel linear module: a partial sum, an all-reduce, then the bias."""

    def __init__(self, whole: nn.Linear, rank: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(whole.weight.chunk(size, dim=1)[rank].clone(), requires_grad=False)
        self.bias = whole.bias

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.linear(x, self.weight)
        dist.all_reduce(y)
        return y if self.bias is None else y.add_(self.bias)


class Megatron(_Meeting):
    def __init__(self, job: Job, rank: int) -> None:
        columns, rows = _linears(zoo.build(job.model).module, job)
        super().__init__(job, rank)
        module = self.example.module
        for name in columns:
            whole = module.get_submodule(name)
            assert isinstance(whole, nn.Linear)
            bias = whole.bias is not None
            part = nn.Linear(whole.in_features, whole.out_features // self.size, bias=bias)
            with torch.no_grad():
                part.weight.copy_(whole.weight.chunk(self.size)[rank])
                if bias:
                    part.bias.copy_(whole.bias.chunk(self.size)[rank])
            module.set_submodule(name, part)
        for name in rows:
            whole = module.get_submodule(name)
            assert isinstance(whole, nn.Linear)
            module.set_submodule(name, RowParallel(whole, rank, self.size))


class DTensor(_Meeting):
    """``torch.distributed.tensor.parallel``, on the same projections."""

    def __init__(self, job: Job, rank: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        columns, rows = _linears(zoo.build(job.model).module, job)
        super().__init__(job, rank)
        plan: dict[str, Any] = {name: ColwiseParallel() for name in columns}
        plan |= {name: RowwiseParallel() for name in rows}
        parallelize_module(self.example.module, init_device_mesh("cpu", (self.size,)), plan)


class Pipelining(_Meeting):
    """``torch.distributed.pipelining``: two stages, GPipe's schedule, each request a microbatch."""

    def __init__(self, job: Job, rank: int) -> None:
        super().__init__(job, rank)
        pipe = split(self.example, half_of(self.example))
        self._rank = rank
        self._stage = pipe.build_stage(rank, torch.device("cpu"))
        self._stage.submod.register_forward_hook(_contiguous)  # gloo sends nothing else
        self._schedules: dict[int, Any] = {}
        self.stream(job.stream)  # exchanges shapes, and makes the schedule

    def request(self) -> Any:
        return self._run(1)

    def stream(self, count: int) -> None:
        self._run(count)

    def _run(self, count: int) -> Any:
        from torch.distributed.pipelining import ScheduleGPipe

        if count not in self._schedules:
            self._schedules[count] = ScheduleGPipe(self._stage, n_microbatches=count)
        many = [torch.cat([value] * count) for value in self.example.args]
        named = {name: torch.cat([value] * count) for name, value in self.example.kwargs.items()}
        with torch.no_grad():
            if self._rank == 0:
                return self._schedules[count].step(*many, **named)
            return self._schedules[count].step()


def _contiguous(_module: nn.Module, _args: Any, out: Any) -> Any:
    if isinstance(out, Tensor):
        return out.contiguous()
    if isinstance(out, tuple | list):
        return type(out)(_contiguous(_module, _args, item) for item in out)
    return out


def _linears(module: nn.Module, job: Job) -> tuple[list[str], list[str]]:
    """Return the names of the column-parallel and of the row-parallel modules."""
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    columns = [name for name in names if COLUMNS.search(name)]
    rows = [name for name in names if ROWS.search(name)]
    if not columns or not rows:
        raise ConfigError("no attention and MLP of the transformers package in it")
    heads = getattr(getattr(module, "config", None), "num_attention_heads", 0)
    if not heads or heads % job.row.processes:
        raise ConfigError(f"{heads} heads do not divide over {job.row.processes} processes")
    return columns, rows
