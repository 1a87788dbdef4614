"""`edgeflow serve` as a process, over local workers and over workers that join it; Triton's client asks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeflow.net.certificates import make_authority, make_host

torch = pytest.importorskip("torch")
pytest.importorskip("tritonclient", reason="tritonclient is not installed")

HERE = Path(__file__).parent
START_S = 90.0


@contextmanager
def process(*arguments: str, folder: Path) -> Iterator[str]:
    """Start ``edgeflow ...``; yield its first line; terminate it, and expect that it ends well."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}
    with (folder / "stderr").open("ab") as stderr:
        running = subprocess.Popen(
            [sys.executable, "-m", "edgeflow.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        )
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line, (folder / "stderr").read_text()
        yield line
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
            raise


def addresses(line: str) -> tuple[str, str]:
    """Out of ``serving NAME at URL and grpc HOST:PORT``."""
    words = line.split()
    return words[3], words[-1]


def ask(line: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Run Triton's client; return what the module answers, what was answered, and what else was said."""
    from tests.process.served_model import make  # type: ignore[import-not-found,unused-ignore]

    http, grpc = addresses(line)
    module, _ = make()
    rng = np.random.default_rng(5)
    questions = {
        "image": rng.standard_normal((1, 3, 16, 16)).astype(np.float32),
        "mask": rng.standard_normal((1, 5)).astype(np.float32),
    }
    np.savez(folder / "questions.npz", **questions)
    done = subprocess.run(
        [
            *(sys.executable, str(HERE / "triton_requests.py"), http.removeprefix("http://"), grpc, "small"),
            *(str(folder / "questions.npz"), str(folder / "answers.npz")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        expected = module(*(torch.from_numpy(array) for array in questions.values()))
    return expected, dict(np.load(folder / "answers.npz")), json.loads(done.stdout)


def serve(*arguments: str) -> tuple[str, ...]:
    ports = ("--port", "0", "--grpc-port", "0", "--name", "small")
    return ("serve", "served_model:make", *ports, *arguments)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The first line of a server that answers up to four requests together."""
    folder = tmp_path_factory.mktemp("served")
    plan = ("--speeds", "1,0.5", "--strategy", "modnn", "--local", "--batch", "4", "--batch-wait", "100 ms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFLOW_CACHE_DIR", str(folder / "weights"))
        with process(*serve(*plan), folder=folder) as line:
            yield line


def metric(line: str, name: str) -> float:
    """The value of a metric of the server."""
    text = urllib.request.urlopen(f"{addresses(line)[0]}/metrics", timeout=5).read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def test_tritons_client_is_served(served: str, tmp_path: Path) -> None:
    outcomes = {
        'edgeflow_serve_requests_total{outcome="answered",protocol="http"}': 3.0,
        'edgeflow_serve_requests_total{outcome="answered",protocol="grpc"}': 2.0,
        'edgeflow_serve_requests_total{outcome="late",protocol="grpc"}': 1.0,
    }
    before = {name: metric(served, name) for name in outcomes}
    expected, answers, said = ask(served, tmp_path)
    assert {name: metric(served, name) - before[name] for name in outcomes} == outcomes
    assert metric(served, "edgeflow_serve_in_flight") == 0.0
    assert metric(served, "edgeflow_serve_ready") == 1.0

    for name, answer in answers.items():
        output = "scores" if name.endswith("scores") else "features"
        np.testing.assert_allclose(answer, expected[output].numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    assert len(answers) == 8  # two outputs of three kinds of request, and one alone through each door

    for kind in ("http", "grpc"):
        assert said[f"{kind}_live"] and said[f"{kind}_ready"] and said[f"{kind}_model_ready"] == [True, True]
        assert not said[f"{kind}_other_model_ready"]
        assert said[f"{kind}_server"]["name"] == "edgeflow"
        model = said[f"{kind}_model"]
        assert (model["name"], model["versions"]) == ("small", ["1"])
        assert [item["name"] for item in model["inputs"]] == ["image", "mask"]
        assert [item["name"] for item in model["outputs"]] == ["scores", "features"]
        assert [int(size) for size in model["inputs"][0]["shape"]] == [1, 3, 16, 16]
    statuses = {
        "no_model": ("404", "StatusCode.NOT_FOUND", "there is no model 'nobody'"),
        "shape": ("400", "StatusCode.INVALID_ARGUMENT", "the model takes FP32[1, 5], got FP32[1, 3]"),
        "dtype": ("400", "StatusCode.INVALID_ARGUMENT", "the model takes FP32[1, 5], got FP64[1, 5]"),
        "missing": ("400", "StatusCode.INVALID_ARGUMENT", "takes the inputs image, mask; got mask"),
        "output": ("400", "StatusCode.INVALID_ARGUMENT", "there is no output 'nothing'"),
        "late": ("504", "StatusCode.DEADLINE_EXCEEDED", "no answer in 0.000 s"),
    }
    for what, (http_status, grpc_status, text) in statuses.items():
        assert said[f"http_{what}"][0] == http_status, said[f"http_{what}"]
        assert said[f"grpc_{what}"][0] == grpc_status, said[f"grpc_{what}"]
        assert text in said[f"http_{what}"][1] and text in said[f"grpc_{what}"][1]


def test_requests_that_come_at_once_are_answered_together(served: str) -> None:
    from tests.process.served_model import make  # type: ignore[import-not-found,unused-ignore]

    module, _ = make()
    rng = np.random.default_rng(6)
    questions = [
        (rng.standard_normal((1, 3, 16, 16)).astype(np.float32), rng.random((1, 5)).astype(np.float32))
        for _ in range(8)
    ]

    def ask_one(arrays: tuple[Any, Any]) -> dict[str, Any]:
        inputs = [
            {"name": name, "datatype": "FP32", "shape": array.shape, "data": array.reshape(-1).tolist()}
            for name, array in zip(("image", "mask"), arrays, strict=True)
        ]
        body = json.dumps({"inputs": inputs}).encode()
        with urllib.request.urlopen(f"{http}/v2/models/small/infer", body, timeout=30) as answer:
            outputs = json.load(answer)["outputs"]
        return {item["name"]: np.reshape(item["data"], item["shape"]) for item in outputs}

    http, _ = addresses(served)
    batches, requests = (f"edgeflow_serve_batch_requests_{what}" for what in ("count", "sum"))
    before = metric(served, batches), metric(served, requests)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask_one, questions))
    metadata = json.load(urllib.request.urlopen(f"{http}/v2/models/small", timeout=5))
    assert metric(served, requests) - before[1] == 8.0
    assert metric(served, batches) - before[0] < 8.0

    for arrays, answer in zip(questions, answers, strict=True):
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(array) for array in arrays))
        for name in ("scores", "features"):
            np.testing.assert_allclose(answer[name], expected[name].numpy(), rtol=1e-5, atol=1e-6)
    assert [item["shape"] for item in metadata["inputs"]] == [[1, 3, 16, 16], [1, 5]]


@pytest.mark.slow
def test_workers_join_a_server_with_certificates_and_a_token(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    make_authority(certs)
    make_host(certs, "here", ["127.0.0.1", "localhost"])
    access = ("--identity", str(certs / "here"), "--token-file", str(certs / "token"))
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(
        "name: joined\nsource: fast\nnetwork: {bandwidth: 8 Gbit/s, latency: 0.5 ms}\n"
        "devices:\n  fast: {speed: 40 GFLOP/s, memory: 1 GiB}\n  slow: {speed: 20 GFLOP/s, memory: 1 GiB}\n"
    )
    registry = f"127.0.0.1:{_free_port()}"

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "edgeflow.cli", "worker", "--bind", "127.0.0.1:0", "--name", name),
                *("--join", registry, "--cache-dir", str(tmp_path / name), *access),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    workers = [start(name) for name in ("fast", "slow")]
    try:
        command = serve("--cluster", str(cluster), "--strategy", "modnn", "--registry", registry, *access)
        with process(*command, folder=tmp_path) as line:
            expected, answers, _ = ask(line, tmp_path)
            # One is lost, and comes back at another port: it is answered meanwhile, and used again.
            workers[1].kill()
            _, alone, _ = ask(line, tmp_path)
            workers.append(start("slow"))
            assert workers[2].stdout is not None and b"listening" in workers[2].stdout.readline()
            _, again, _ = ask(line, tmp_path)
            workers[0].kill()
            _, other, _ = ask(line, tmp_path)
        for later in (alone, again, other):
            np.testing.assert_allclose(
                later["grpc_binary_scores"], answers["grpc_binary_scores"], rtol=1e-5, atol=1e-6
            )
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.communicate(timeout=20)
    np.testing.assert_allclose(
        answers["grpc_binary_scores"], expected["scores"].numpy(), rtol=1e-5, atol=1e-6
    )


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
