"""The demo of docker-compose.yml, with a slow-down, a kill and a restart while requests go on.

    python scripts/compose.py [--seconds N] [--keep]

Needs docker (where no daemon runs, one is started and ended again) and docker-compose or compose v2. The base
image is the environment variable BASE_IMAGE; without it one is made of Debian's packages by debootstrap, with
this machine's certificates and the settings that its pip has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = "edgeflow-base:local"
PACKAGES = "python3,python3-venv,ca-certificates,adduser"
THROTTLE = ["-f", "docker-compose.yml", "-f", "deploy/docker/throttle.yml"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of each phase")
    parser.add_argument("--keep", action="store_true", help="keep the containers running")
    options = parser.parse_args()
    with daemon():
        build()
        try:
            return show(options.seconds)
        finally:
            if not options.keep:
                compose("down", "-v", quiet=True)


@contextlib.contextmanager
def daemon() -> Iterator[None]:
    """Use the running Docker daemon, or start one."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        yield
        return
    with tempfile.TemporaryFile() as log, subprocess.Popen(["dockerd"], stdout=log, stderr=log) as process:
        try:
            deadline_s = time.monotonic() + 60
            while subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    log.seek(0)
                    sys.exit("dockerd did not start:\n" + log.read().decode(errors="replace")[-2000:])
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait(60)


def build() -> None:
    base = os.environ.get("BASE_IMAGE") or make_base()
    words = (
        f"docker build --network host --build-arg BASE_IMAGE={base} -f deploy/docker/Dockerfile -t edgeflow ."
    )
    run(words.split(), quiet=True)


def make_base() -> str:
    """Return an image of Debian's own packages, made once."""
    known = subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False)
    if known.returncode == 0:
        return BASE
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)], quiet=True)
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.exists():
            shutil.copyfile(bundle, root / bundle.relative_to("/"))
        wheels = os.environ.get("PIP_FIND_LINKS", "")
        settings = ["[global]", f"cert = {bundle}"]
        if wheels and Path(wheels).is_dir():
            shutil.copytree(wheels, root / Path(wheels).relative_to("/"))
            settings.append(f"find-links = {wheels}")
        (root / "etc/pip.conf").write_text("\n".join(settings) + "\n")
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(["docker", "import", "-", BASE], stdin=tar.stdout, capture_output=True, check=True)
    return BASE


def show(phase_s: float) -> int:
    """Send requests, and slow, kill and restart workers meanwhile."""
    phases = 6
    compose("up", "-d", "certs", "fast", "medium", "slow", quiet=True)
    command = ["run", "openworld-base", "--cluster", "deploy/clusters/compose.yaml"]
    command += ["--workers", "fast:7070,medium:7070,slow:7070", "--identity", "/certs/coordinator"]
    command += ["--token-file", "/certs/token", "--balance", "--seconds", f"{phases * phase_s:g}"]
    words = [*compose_command(), "run", "--rm", "-T", "coordinator", *command]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begun = threading.Event()

        def echo() -> None:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                begun.set()

        reader = threading.Thread(target=echo)
        reader.start()
        begun.wait()
        for told, act in (
            (None, None),
            ("fast is slowed to a third", lambda: compose(*THROTTLE, "up", "-d", "throttle", quiet=True)),
            ("fast is as before", lambda: compose(*THROTTLE, "rm", "-sf", "throttle", quiet=True)),
            ("medium is killed", lambda: compose("kill", "medium", quiet=True)),
            ("medium is back", lambda: compose("start", "medium", quiet=True)),
        ):
            if act is not None:
                print(f"--- {told}", flush=True)
                act()
            time.sleep(phase_s)
        reader.join()
        return process.wait()


def compose_command() -> list[str]:
    """Return the command of Compose v2 if the client has it, else docker-compose."""
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if v2.returncode == 0 else ["docker-compose"]


def compose(*words: str, quiet: bool = False) -> None:
    run([*compose_command(), *words], quiet=quiet)


def run(command: list[str], *, quiet: bool) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=quiet, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout or '')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
