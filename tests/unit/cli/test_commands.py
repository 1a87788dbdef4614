"""The commands on small models, in this process; workers are played by the in-process executor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import edgeflow as ef
from edgeflow.cli import demo
from edgeflow.cli.app import app
from edgeflow.demo.job import ModelReport, PlanReport
from edgeflow.graph.compare import compare
from edgeflow.telemetry import TraceEvent
from edgeflow.telemetry.timing import Timing


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


class FakeSession:
    """Answers as workers would, and remembers that it was closed."""

    def __init__(
        self,
        plan: ef.Plan,
        workers: list[str] | None = None,
        local: bool = False,
        transport: str = "",
        access: Any = None,
        balance: bool = False,
    ) -> None:
        self.decisions, self.balance, self.transport = (), balance, transport
        self.plan, self.workers, self.local, self.closed = plan, workers, local, False
        self.scale = 1.0

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.closed = True

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return ef.execute(self.plan, args, kwargs) * self.scale

    def trace(self) -> tuple[TraceEvent, ...]:
        return ef.predict(self.plan).events


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """Every session that a command opens."""
    opened: list[FakeSession] = []

    def deploy(plan: ef.Plan, **options: Any) -> FakeSession:
        opened.append(FakeSession(plan, **options))
        return opened[-1]

    monkeypatch.setattr(ef, "deploy", deploy, raising=False)
    monkeypatch.setattr(ef, "measure_contention", lambda *what: 1.25, raising=False)
    monkeypatch.setattr(
        demo,
        "local_workers",
        lambda speeds, progress: nullcontext([f"w:{rank}" for rank in range(len(speeds))]),
    )
    return opened


@pytest.fixture
def wrong_workers(sessions: list[FakeSession], monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """Sessions whose answers are one part in a thousand too large."""
    monkeypatch.setattr(FakeSession, "run", lambda self, *args: ef.execute(self.plan, args) * 1.001)
    return sessions


def test_plan_explains_on_stdout() -> None:
    result = invoke("plan", "tiny-resnet", "--speeds", "1,0.5", "--strategy", "coedge")

    assert result.exit_code == 0, result.output
    assert "coedge" in result.stdout
    assert "device1" in result.stdout
    assert result.stderr == ""


def test_plan_as_json_is_only_json_and_saves_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    result = invoke("plan", "mlp", "--speeds", "1,0.5", "--strategy", "megatron", "--json", "-o", str(path))

    said = json.loads(result.stdout)
    assert said["strategy"] == "megatron"
    assert said["predicted_latency_s"] > 0
    assert [stage["name"] for stage in said["stages"]]
    assert path.is_file()
    assert str(path) in result.stderr


def test_a_plan_of_a_batch_is_for_another_graph_than_one_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    command = ("plan", "mlp", "--speeds", "1,0.5", "--strategy", "megatron", "--batch", "2", "-o", str(path))
    assert invoke(*command).exit_code == 0

    result = invoke("serve", "mlp", "--plan", str(path), "--local")
    assert result.exit_code != 0
    assert "was made for graph 'mlp'" in str(result.exception) + result.stderr


def test_verify_passes_in_this_process(tmp_path: Path) -> None:
    result = invoke("verify", "tiny-vit", "--speeds", "1,0.6,0.4", "--strategy", "megatron", "--json")

    said = json.loads(result.stdout)
    assert result.exit_code == 0
    assert said["passed"] is True
    assert list(said["differences"]) == ["in_process"]
    assert said["num_devices"] == 3


def test_verify_says_what_narrow_activations_cost(tmp_path: Path) -> None:
    asked = ("tiny-vit", "--speeds", "1,1", "--bandwidth", "100 Mbit/s", "--strategy", "megatron")
    plan = str(tmp_path / "plan.json")
    assert invoke("plan", *asked, "--activations", "int8", "--output", plan).exit_code == 0

    exact = json.loads(invoke("verify", *asked, "--json").stdout)
    narrow = json.loads(invoke("verify", "tiny-vit", "--plan", plan, "--json").stdout)

    assert (exact["activations"], narrow["activations"]) == ("", "int8")
    assert exact["differences"]["in_process"]["relative"] < 1e-4
    assert 1e-4 < narrow["differences"]["in_process"]["relative"] < 0.1
    assert invoke("verify", *asked, "--activations", "int4").exit_code == 3


def test_verify_takes_a_saved_graph_and_a_saved_plan(tmp_path: Path) -> None:
    graph, plan = str(tmp_path / "net.edgeflow"), str(tmp_path / "plan.json")
    assert invoke("capture", "tiny-resnet", "-o", graph).exit_code == 0
    assert invoke("plan", graph, "--speeds", "1,1", "--strategy", "coedge", "-o", plan).exit_code == 0
    result = invoke("verify", graph, "--plan", plan)

    assert result.exit_code == 0, result.output
    assert "PASS" in result.stdout


def test_a_plan_for_another_graph_is_refused(tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.json")
    assert invoke("plan", "mlp", "--speeds", "1,1", "-o", plan).exit_code == 0
    result = invoke("verify", "tiny-vit", "--plan", plan)

    assert result.exit_code == 3
    assert "'mlp'" in result.stderr
    assert "'tiny-vit'" in result.stderr


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"stages": 3}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content, encoding="utf-8")
    result = invoke("verify", "mlp", "--plan", str(path))

    assert result.exit_code == 1
    assert "plan.json" in result.stderr


def test_too_little_memory_is_4_with_both_numbers() -> None:
    result = invoke("plan", "mlp", "--speeds", "1,0.5", "--memory", "10 KiB")

    assert result.exit_code == 4
    assert "10,240" in result.stderr


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    result = invoke("plan", "mlp", "--speeds", "1", "--strategy", "magic")

    assert result.exit_code == 3
    for name in ef.strategies():
        assert name in result.stderr


def test_verify_on_workers_compares_both(sessions: list[FakeSession]) -> None:
    result = invoke("verify", "mlp", "--speeds", "1,1", "--workers", "a:1,b:2", "--json")

    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["differences"]) == ["in_process", "workers"]
    assert sessions[0].workers == ["a:1", "b:2"]
    assert sessions[0].closed


def test_verify_fails_where_the_workers_are_wrong(wrong_workers: list[FakeSession]) -> None:
    result = invoke("verify", "mlp", "--speeds", "1,1", "--local")

    assert result.exit_code == 1
    assert "PASS" in result.stdout
    assert "FAIL" in result.stdout
    assert wrong_workers[0].local
    assert wrong_workers[0].closed


def test_a_looser_tolerance_lets_them_pass(wrong_workers: list[FakeSession]) -> None:
    assert invoke("verify", "mlp", "--speeds", "1,1", "--local", "--tolerance", "0.01").exit_code == 0


def test_run_measures_and_saves_the_answer(tmp_path: Path, sessions: list[FakeSession]) -> None:
    path = tmp_path / "answer.npz"
    result = invoke("run", "mlp", "--speeds", "1,1", "--local", "--requests", "3", "--json", "-o", str(path))

    said = json.loads(result.stdout)
    assert said["latency"]["num_requests"] == 3
    assert said["outputs"] == [{"shape": [4, 10], "dtype": "float32"}]
    with np.load(path) as saved:
        assert saved["arr_0"].shape == (4, 10)


def test_run_goes_on_for_some_time(sessions: list[FakeSession]) -> None:
    result = invoke("run", "mlp", "--speeds", "1,1", "--local", "--seconds", "0.2", "--balance")

    assert result.exit_code == 0, result.output
    assert "0 failed, 0 differed" in result.stdout
    assert [session.balance for session in sessions] == [True]


def test_run_for_some_time_needs_workers() -> None:
    result = invoke("run", "mlp", "--speeds", "1,1", "--seconds", "1")

    assert result.exit_code == 3
    assert "--local" in result.stderr


@pytest.mark.parametrize("command", [("verify",), ("run",), ("run", "--seconds", "0.1")], ids=" ".join)
@pytest.mark.parametrize("where", [("--local",), ("--workers", "a:1,b:2")], ids=" ".join)
def test_the_transport_that_was_asked_for(
    sessions: list[FakeSession], command: tuple[str, ...], where: tuple[str, ...]
) -> None:
    name, *more = command
    for asked in (("--transport", "grpc"), ("--transport", "tcp"), ()):
        assert invoke(name, "mlp", "--speeds", "1,1", *more, *where, *asked).exit_code == 0

    assert [session.transport for session in sessions] == ["grpc", "tcp", "auto"]


def test_serve_takes_the_transport_too(sessions: list[FakeSession], monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("edgeflow.serving.server", exc_type=ImportError)
    monkeypatch.setattr(server, "serve_model", lambda *args, **options: None)

    result = invoke("serve", "mlp", "--speeds", "1,1", "--local", "--transport", "grpc")

    assert result.exit_code == 0, result.output
    assert [session.transport for session in sessions] == ["grpc"]


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_transport_without_workers_carries_nothing(command: str) -> None:
    """Or `verify --transport grpc` would pass without having tried it."""
    result = invoke(command, "mlp", "--speeds", "1,1", "--transport", "grpc")

    assert result.exit_code == 2
    assert "--local" in result.stderr
    assert invoke(command, "mlp", "--speeds", "1,1", "--transport", "auto").exit_code == 0


def test_run_in_this_process() -> None:
    result = invoke("run", "tiny-bert", "--speeds", "1,0.5")

    assert result.exit_code == 0, result.output
    assert "device by device" in result.stdout


def test_demo_measures_compares_and_draws(
    tmp_path: Path, sessions: list[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODELS", ("tiny-resnet",))
    result = invoke("demo", "--output", str(tmp_path), "--requests", "1", "--json")

    assert result.exit_code == 0, result.output
    said: Mapping[str, Any] = json.loads(result.stdout)
    model = said["models"][0]
    assert list(model["plans"]) == ["split", "one device"]
    for plan in model["plans"].values():
        assert plan["difference"]["relative"] < 1e-4
        assert plan["measured"]["num_requests"] == 1
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8")) == said
    for path in model["files"].values():
        assert Path(path).is_file()
    assert all(session.closed for session in sessions)


def test_demo_says_what_was_measured(
    tmp_path: Path, sessions: list[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODELS", ("tiny-resnet",))
    result = invoke("demo", "--output", str(tmp_path), "--requests", "1")

    for word in (
        "predicted",
        "measured",
        "one device",
        "plain PyTorch",
        "PASS",
        "timeline",
        "times the speed",
        "1.25 times as long while all workers compute",
    ):
        assert word in result.stdout


def test_demo_with_wrong_answers_fails(
    tmp_path: Path, wrong_workers: list[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MODELS", ("tiny-resnet",))

    assert invoke("demo", "--output", str(tmp_path), "--requests", "1").exit_code == 1


@pytest.mark.parametrize(
    ("choice", "split_s", "said"),
    [
        ("split", 0.5, "2.00 times the speed of one device; auto chose the split, rightly"),
        ("split", 2.0, "0.50 times the speed of one device; auto chose the split, wrongly"),
        ("one device", 2.0, "auto chose one device, rightly"),
        ("one device", 0.5, "auto chose one device, wrongly"),
    ],
)
def test_the_verdict_is_what_was_measured(choice: str, split_s: float, said: str) -> None:
    assert said in demo._verdict(report(choice, {"split": split_s, "one device": 1.0}))


def test_a_verdict_needs_a_split() -> None:
    assert "nothing to compare" in demo._verdict(report("one device", {"one device": 1.0}))


def report(choice: str, seconds: Mapping[str, float]) -> ModelReport:
    same = compare(np.ones(1), np.ones(1))
    return ModelReport(
        model="m",
        strategy="auto",
        choice=choice,
        num_operators=1,
        weight_bytes=1,
        contention=1.0,
        explanation="",
        plans={
            name: PlanReport(
                chosen=name,
                num_devices=1,
                predicted_latency_s=1.0,
                measured=Timing.of([value]),
                difference=same,
            )
            for name, value in seconds.items()
        },
        plain_pytorch=Timing.of([1.0]),
        files={},
    )


@pytest.mark.parametrize("speeds", ["2,1", "1,0", "1,-0.5", "nan"])
def test_a_local_worker_is_a_share_of_a_core(tmp_path: Path, speeds: str) -> None:
    result = invoke("demo", "--output", str(tmp_path), "--speeds", speeds)

    assert result.exit_code == 3
    assert "a share of a core" in result.stderr
