"""A Ray cluster of several nodes on this machine, on loopback alone, for tests and benchmarks: nodes come and are killed.

Ray listens on loopback only where a node's address is 127.0.0.1, and on Linux replaces that by an outer one; so each
node is started through `python -m tests.support.ray_nodes`, which leaves it, and a process that connects has `CONNECTING` in
its environment before it imports Ray. Authentication is off, as such a cluster lives for minutes and takes no outer
connection; nothing is written outside its folder.

Belongs here: starting and ending nodes. Not here: what runs on them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from speed_assets.recipe import PROJECT
from tests.support.servers import free_port

CONNECTING = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the address of this machine is 127.0.0.1
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
NODE = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A lost node is given up after some two seconds, not half a minute.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
OBJECT_STORE_BYTES = 100_000_000
START_SECONDS = 90


class Nodes:
    """The nodes of one cluster; the first is its head. To be closed, which ends whatever runs on it."""

    def __init__(self, environment: Mapping[str, str] | None = None, dashboard: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rn-"))  # short: paths of sockets have a limit
        inherited = {name: value for name, value in os.environ.items() if name not in CONNECTING}
        self._environment = {**inherited, "PYTHONPATH": str(PROJECT), **NODE, **(environment or {})}
        self._dashboard = dashboard
        self._processes: list[subprocess.Popen[bytes]] = []
        self.address = f"127.0.0.1:{free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"

    def add(self, cpus: int = 1) -> int:
        """Start a node; returns its number when Ray says that it runs."""
        number = len(self._processes)
        port = self.address.rpartition(":")[2]
        head = (
            *("--head", "--port", port, "--temp-dir", str(self.folder / "t")),
            *(
                ("--dashboard-host", "127.0.0.1", "--dashboard-port", self.dashboard.rpartition(":")[2])
                if self._dashboard
                else ()
            ),
            f"--include-dashboard={self._dashboard}",
        )
        log = self.folder / f"node{number}.log"
        arguments = (
            *(("--address", self.address) if number else head),
            *("--block", "--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus), "--num-gpus", "0"),
            *("--object-store-memory", str(OBJECT_STORE_BYTES), "--disable-usage-stats"),
            # Jobs are taken by an agent that listens on one port whatever the cluster, unless it gets another.
            *("--dashboard-agent-listen-port", str(free_port())),
        )
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.ray_nodes", "start", *arguments],
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._processes.append(process)
        end = time.monotonic() + START_SECONDS
        while b"Ray runtime started" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"node {number} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        return number

    def kill(self, number: int) -> None:
        """SIGKILL to all processes of a node: raylet, workers and what they have started."""
        self._signal(number, signal.SIGKILL)
        self._processes[number].wait()

    def stall(self, number: int) -> None:
        """SIGSTOP to all of them: the node is there and does nothing. Who waits for an answer of it gives it up after seven
        minutes (Ray's `grpc_client_keepalive_time_ms` and `_timeout_ms`; servers refuse to be asked much more often)."""
        self._signal(number, signal.SIGSTOP)

    def _signal(self, number: int, what: signal.Signals) -> None:
        process = self._processes[number]
        if process.returncode is not None:
            return
        for pid in [process.pid, *_descendants(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, what)

    def close(self) -> None:
        for number in reversed(range(len(self._processes))):
            self.kill(number)
        shutil.rmtree(self.folder, ignore_errors=True)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = entry.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def main() -> None:
    import ray._private.services as services

    services.resolve_ip_for_localhost = lambda host: host
    services.get_node_ip_address = lambda *_: "127.0.0.1"
    from ray.scripts.scripts import main as ray_command

    sys.argv[0] = "ray"
    ray_command()


if __name__ == "__main__":
    main()
