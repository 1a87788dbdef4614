"""A cluster of hosts on one machine: network namespaces, shaped links, rationed processors. Needs root.

Every host is a namespace with a worker process in it; a bridge, in a namespace of its own, joins them. Links
are shaped by ``tc tbf``, processors by the quota of a control group (version 1). All names carry the process
id of the process that made them, and everything is removed at the end, also after a failure.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

from edgeflow.closing import Closing
from edgeflow.errors import ConfigError, WorkerUnreachableError

_CPU: Final = Path("/sys/fs/cgroup/cpu")

#: Short, so that a rationed processor is evenly slow rather than in bursts.
#: A quota below 1 ms is not taken, so this is also what the least share is of.
_PERIOD_US: Final = 10_000

#: Weight of the hosts against all else on this machine (1024 is usual; 262144 the most): a quota is the most
#: that a host gets, and only this sees to it that it gets it, whatever else runs.
_WEIGHT: Final = 100_000

_CLONE_NEWNET: Final = 0x40000000

_PORT: Final = 7070


def missing() -> str:
    """Return the reason why such a cluster cannot be made here; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "tc", "nsenter"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if not (_CPU / "cpu.cfs_quota_us").exists() and not (_CPU / "cgroup.procs").exists():
        return f"there is no control group of version 1 at {_CPU}"
    probe = subprocess.run(["ip", "netns", "list"], capture_output=True)
    return "" if probe.returncode == 0 else "ip netns does not work here"


class NetnsCluster(Closing):
    """Hosts with a worker each, and one for the coordinator.

    Args:
        shares: Of one processor, that each worker gets.
        rate: Of every host's link, as ``tc`` writes it.
        folder: For caches and logs of the workers.

    Raises:
        ConfigError: If it cannot be made here, with the reason.
    """

    def __init__(self, shares: list[float], *, folder: Path, rate: str = "200mbit") -> None:
        reason = missing()
        if reason:
            raise ConfigError(f"no cluster of namespaces: {reason}")
        self._shares = list(shares)
        self._rate = rate
        self._folder = folder
        self._tag = f"ef{os.getpid()}"
        self._subnet = f"10.77.{os.getpid() % 250 + 1}"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._group = _CPU / f"edgeflow-{os.getpid()}"

    @property
    def addresses(self) -> list[str]:
        return [f"{self._subnet}.{index + 10}:{_PORT}" for index in range(len(self._shares))]

    @property
    def pids(self) -> dict[int, int]:
        """Worker -> its process id, of those that run."""
        return {index: process.pid for index, process in self._processes.items()}

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    # Faults, and their ends.

    def start(self, index: int) -> None:
        """Start a worker, at its usual address."""
        log = (self._folder / f"worker{index}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{self._host(index)}"),
                    *(sys.executable, "-m", "edgeflow.worker", "--insecure"),
                    *("--bind", self.addresses[index]),
                    *("--cache-dir", str(self._folder / f"cache{index}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                },
            )
        self._processes[index] = process
        assert process.stdout is not None
        if not process.stdout.readline().startswith(b"listening"):
            raise WorkerUnreachableError(f"the worker at {self.addresses[index]} did not come up")
        self._ration(index)

    def kill(self, index: int) -> None:
        process = self._processes.pop(index)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def is_running(self, index: int) -> bool:
        return index in self._processes

    def stop(self, index: int) -> None:
        """Let a worker hang."""
        self._processes[index].send_signal(signal.SIGSTOP)

    def go_on(self, index: int) -> None:
        self._processes[index].send_signal(signal.SIGCONT)

    def cut(self, index: int) -> None:
        """Cut a host off the network."""
        _run("ip", "-n", self._net, "link", "set", f"p{index}", "down")

    def mend(self, index: int) -> None:
        _run("ip", "-n", self._net, "link", "set", f"p{index}", "up")

    def part(self, a: int, b: int, *, is_mutual: bool = True) -> None:
        """Drop the packets between two hosts, or from the first to the second."""
        for mine, other in ((a, b), (b, a))[: 1 + is_mutual]:
            address = self.addresses[other].partition(":")[0]
            _run(
                *("ip", "-n", self._host(mine), "neigh", "replace", address),
                *("lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent"),
            )

    def rejoin(self, a: int, b: int) -> None:
        for mine, other in ((a, b), (b, a)):
            address = self.addresses[other].partition(":")[0]
            _run("ip", "-n", self._host(mine), "neigh", "flush", "to", address, "dev", "eth0", "nud", "all")

    def narrow(self, a: int, b: int, rate: str, queue: str) -> None:
        """Send the packets between two hosts over a link of its own; may be called once per host.

        Args:
            rate: As ``tc`` writes it.
            queue: Length of the queue beyond which packets are dropped, as ``tc`` writes it.
        """
        for mine, other in ((a, b), (b, a)):
            host, address = self._host(mine), self.addresses[other].partition(":")[0]

            def shape(kind: str, *what: str, host: str = host) -> None:
                _run("tc", "-n", host, kind, "add", "dev", "eth0", *what)

            _run("tc", "-n", host, "qdisc", "del", "dev", "eth0", "root")
            shape("qdisc", "root", "handle", "7:", "htb", "default", "1")
            shape("class", "parent", "7:", "classid", "7:1", "htb", "rate", self._rate)
            shape("class", "parent", "7:", "classid", "7:2", "htb", "rate", rate, "burst", "3kb")
            shape("qdisc", "parent", "7:2", "bfifo", "limit", queue)
            match = ("u32", "match", "ip", "dst", f"{address}/32", "flowid", "7:2")
            shape("filter", "parent", "7:", "protocol", "ip", *match)

    def slow(self, index: int, factor: float) -> None:
        """Slow a worker's processor down by a factor of its first share."""
        self._ration(index, 1 / factor)

    def enter(self, index: int | None = None) -> None:
        """Move this thread, and all that it starts from now on, to the coordinator's host, or a worker's."""
        libc = ctypes.CDLL(None, use_errno=True)
        name = f"{self._tag}c" if index is None else self._host(index)
        with Path(f"/run/netns/{name}").open("rb") as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise ConfigError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")

    def close(self) -> None:
        """Remove everything; may be called twice."""
        for index in list(self._processes):
            self.kill(index)
        for name in (*(self._host(index) for index in range(len(self._shares))), f"{self._tag}c", self._net):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        for _ in range(50):
            with contextlib.suppress(OSError):
                for group in sorted(self._group.glob("w*")):
                    group.rmdir()
                self._group.rmdir()
            if not self._group.exists():
                return
            time.sleep(0.02)  # a process that has just ended still counts for a moment

    def log(self, index: int) -> str:
        """Return the output of a worker."""
        return (self._folder / f"worker{index}.log").read_text(errors="replace")

    # Making.

    @property
    def _net(self) -> str:
        return f"{self._tag}n"

    def _host(self, index: int) -> str:
        return f"{self._tag}w{index}"

    def _make(self) -> None:
        _run("ip", "netns", "add", self._net)
        _run("ip", "-n", self._net, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self._net, "link", "set", "br0", "up")
        self._plug(f"{self._tag}c", "pc", 2)
        self._group.mkdir(exist_ok=True)
        (self._group / "cpu.shares").write_text(str(_WEIGHT))
        for index in range(len(self._shares)):
            self._plug(self._host(index), f"p{index}", index + 10)
            (self._group / f"w{index}").mkdir(exist_ok=True)
        for index in range(len(self._shares)):
            self.start(index)

    def _plug(self, host: str, port: str, number: int) -> None:
        _run("ip", "netns", "add", host)
        _run("ip", "-n", host, "link", "set", "lo", "up")
        _run(
            "ip", "-n", self._net, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host
        )
        _run("ip", "-n", self._net, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", host, "addr", "add", f"{self._subnet}.{number}/24", "dev", "eth0")
        _run("ip", "-n", host, "link", "set", "eth0", "up")
        shape = ("root", "tbf", "rate", self._rate, "burst", "256kb", "latency", "400ms")
        _run("tc", "-n", host, "qdisc", "add", "dev", "eth0", *shape)
        _run("tc", "-n", self._net, "qdisc", "add", "dev", port, *shape)

    def _ration(self, index: int, part: float = 1.0) -> None:
        group = self._group / f"w{index}"
        quota_us = max(1000, int(_PERIOD_US * self._shares[index] * part))
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        process = self._processes.get(index)
        if process is not None:
            (group / "cgroup.procs").write_text(str(process.pid))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"{' '.join(command)}: {done.stderr.strip()}")
