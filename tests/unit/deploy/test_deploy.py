"""What lies in ``deploy/`` fits the formats that it is written in, and the command line that it calls."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from edgeflow.cli.app import app
from edgeflow.cluster import Cluster

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MANIFESTS = [
    document
    for path in sorted((ROOT / "deploy" / "k8s").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]


def check_command(arguments: list[str]) -> dict[str, Any]:
    """Parse a command line of ours as the command itself would; return its options."""
    command: Any = get_command(app)
    sub = command.commands[arguments[0]]
    with sub.make_context(arguments[0], list(arguments[1:]), resilient_parsing=False) as context:
        return dict(context.params)


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (item["metadata"]["name"], container, item["spec"]["template"]["spec"])
        for item in MANIFESTS
        if item["kind"] in ("StatefulSet", "Deployment")
        for container in item["spec"]["template"]["spec"]["containers"]
    ]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
@pytest.mark.parametrize("version", ["1.28", "1.31"])
def test_manifests_fit_the_schema_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    validate.validate(manifest, version, strict=True)


def test_the_schema_would_find_a_mistake() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    wrong = {**MANIFESTS[1], "spec": {"port": 1}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.31", strict=True)


@pytest.mark.parametrize(
    ("name", "container", "pod"), containers(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_pods_run_what_the_command_line_takes(
    name: str, container: dict[str, Any], pod: dict[str, Any]
) -> None:
    options = check_command(container["args"])
    assert str(options["identity"]).startswith("/certificates/")
    assert str(options["token_file"]) == "/certificates/token"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_server_names_every_worker_of_the_cluster_file(tmp_path: Path) -> None:
    by_kind = {item["kind"]: item for item in MANIFESTS}
    file = tmp_path / "cluster.yaml"
    file.write_text(by_kind["ConfigMap"]["data"]["cluster.yaml"])
    devices = [device.name for device in Cluster.load(file).devices]
    workers = by_kind["StatefulSet"]
    prefix = workers["metadata"]["name"]
    assert devices == [f"{prefix}-{index}" for index in range(workers["spec"]["replicas"])]
    (serve,) = [container for name, container, _ in containers() if name == "edgeflow-serve"]
    addresses = check_command(serve["args"])["workers"].split(",")
    assert addresses == [f"{device}.{workers['spec']['serviceName']}:7070" for device in devices]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_pass_systemds_own_check(path: Path, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / path.name
    # It looks whether the program is there, which it is on the machines that the unit is for.
    copy.write_text(path.read_text().replace("/opt/edgeflow/.venv/bin/edgeflow", "/bin/true"))
    done = subprocess.run([tool, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if path.name in line or "Unknown" in line]
    assert not ours and done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_run_what_the_command_line_takes(path: Path) -> None:
    text = path.read_text()
    (line,) = re.findall(r"^ExecStart=\S+/edgeflow (.*)$", text, re.MULTILINE)
    for name, value in {
        "${EDGEFLOW_THREADS}": "4",
        "$EDGEFLOW_OPTIONS": "",
        "${EDGEFLOW_MODEL}": "tiny",
    }.items():
        line = line.replace(name, value)
    options = check_command(shlex.split(line))
    assert str(options["identity"]) == "${CREDENTIALS_DIRECTORY}/host"
    assert {"ca.pem", "host.pem", "host.key", "token"} == set(re.findall(r"LoadCredential=([\w.]+):", text))


# Compose.


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_services_run_what_the_command_line_takes_with_certificates_of_their_own(
    compose: dict[str, Any],
) -> None:
    (shell,) = compose["services"]["certs"]["command"]
    (made,) = re.findall(r"edgeflow (certs .*?) --output /certs", shell)
    hosts = check_command(shlex.split(made))["hosts"]
    services = {name: service for name, service in compose["services"].items() if name != "certs"}
    assert set(hosts) == set(services)
    for name, service in services.items():
        options = check_command(service["command"])
        assert str(options["identity"]) == f"/certs/{name}"
        assert not options.get("insecure")


def test_the_cluster_file_names_the_workers(compose: dict[str, Any]) -> None:
    options = check_command(compose["services"]["coordinator"]["command"])
    devices = [device.name for device in Cluster.load(ROOT / options["cluster"]).devices]
    assert [address.split(":")[0] for address in options["workers"].split(",")] == devices
    assert set(devices) <= set(compose["services"])


#: Keys of a service in format 2.4 that this file uses; compose v2 reads them all.
_KEYS_OF_2_4 = frozenset(
    """
    build command cpus depends_on entrypoint healthcheck image init mem_limit network_mode networks
    stop_grace_period volumes
    """.split()
)


def test_only_what_both_composes_read(compose: dict[str, Any]) -> None:
    assert compose["version"] == "2.4"
    for service in compose["services"].values():
        assert set(service) <= _KEYS_OF_2_4
        for dependency in service.get("depends_on", {}).values():
            # `service_completed_successfully` is none of 2.4's.
            assert dependency["condition"] in ("service_started", "service_healthy")
