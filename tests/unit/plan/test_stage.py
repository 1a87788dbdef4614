"""Stages, shards and pieces as data."""

from __future__ import annotations

import msgspec
import pytest

import edgeflow as ef
from edgeflow.plan import Piece, Shard, Stage
from edgeflow.plan.stage import KINDS
from edgeflow.sharding.region import Interval, Region
from tests.unit.plan.tiny import convs, mlp

_TOP, _BOTTOM = Piece(Region.of([(0, 1)])), Piece(Region.of([(3, 4)]))


def test_a_shard_names_its_first_piece_of_a_tensor() -> None:
    shard = Shard(0, (("x", _TOP), ("x", _BOTTOM), ("y", _BOTTOM)))

    assert shard.piece("x") == _TOP
    assert shard.piece("y") == _BOTTOM
    assert shard.piece("z") is None


def test_devices_and_outputs_stand_once_in_order_of_first_mention() -> None:
    shards = (Shard(2, (("y", _TOP),)), Shard(0, (("x", _TOP),)), Shard(2, (("y", _BOTTOM),)))
    stage = Stage(name="s", kind="tiles", operators=("op",), shards=shards)

    assert stage.devices == (2, 0)
    assert stage.outputs == ("y", "x")
    assert msgspec.structs.replace(stage, claimants=(1, 0)).devices == (1, 0)


def test_stages_survive_json_and_leave_defaults_out() -> None:
    partial = Piece(Region.of([(0, 4)]), Interval(0, 2))
    stage = Stage(name="s", kind="tensor", operators=("op",), shards=(Shard(0, (("x", partial),)),))

    text = msgspec.json.encode(stage)

    assert msgspec.json.decode(text, type=Stage) == stage
    assert b"claimants" not in text


@pytest.mark.parametrize("strategy", sorted(ef.strategies()))
def test_strategies_use_the_kinds_that_are_documented(strategy: str) -> None:
    for graph in (mlp(), convs(3, 3, height=32)):
        plan = ef.plan(graph, ef.Cluster.local([1.0, 1.0]), strategy)
        assert {stage.kind for way in plan.ways for stage in way.stages} <= set(KINDS)
