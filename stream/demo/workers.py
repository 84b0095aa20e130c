"""The workers of the demo: the product's own command as a process, and the kills."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream.core.errors import UnavailableError

INGEST, STATE = 1, 2

METRICS_PORT = 9464
"""Where exporters of OpenTelemetry usually serve Prometheus."""

KILLS_PER_WORKER_MAX = 4
"""The supervisor gives up on a worker at its fifth crash."""

KILLS_MAX = KILLS_PER_WORKER_MAX * (INGEST + STATE)

_STARTED = re.compile(r"^(?P<name>(?:ingest|state)-\d+): started, pid (?P<pid>\d+), (?P<url>http\S+)$", re.MULTILINE)
_READY_S = 90.0
_POLL_S = 0.2
_TAIL_LINES = 15


@dataclass(slots=True)
class Worker:
    """One worker as its supervisor last announced it; `alive` until we kill it, and again once it was restarted."""

    name: str
    pid: int
    url: str
    alive: bool = True
    kills: int = 0


class Workers:
    """`qma worker` as a subprocess in a session of its own: the terminal's Ctrl-C reaches it only through us.

    Args:
        bootstrap: The broker.
        prefix: Of the pipeline's topics.
        log: File for everything that the workers write.
    """

    def __init__(self, bootstrap: str, prefix: str, log: Path) -> None:
        self.log = log
        self.by_name: dict[str, Worker] = {}
        self.restarts = 0
        self._read_to = 0
        port = _free_ports(INGEST + STATE)
        self._command = [
            *(sys.executable, "-m", "stream", "worker", "--broker", bootstrap, "--prefix", prefix),
            *("--ingest", str(INGEST), "--state", str(STATE), "--listen", f"127.0.0.1:{port}"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the supervisor."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def urls(self) -> dict[str, str]:
        """Where each worker's metrics are."""
        return {name: worker.url for name, worker in sorted(self.by_name.items())}

    @property
    def kills(self) -> int:
        """Kills so far."""
        return sum(worker.kills for worker in self.by_name.values())

    def look(self) -> list[str]:
        """Reads what the supervisor wrote since the last call. Returns lines worth telling.

        Raises:
            UnavailableError: The supervisor has ended.
        """
        news = []
        with self.log.open("rb") as file:
            file.seek(self._read_to)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for found in _STARTED.finditer(whole.decode(errors="replace")):
            name, pid = found["name"], int(found["pid"])
            if name in self.by_name:
                self.restarts += 1
                self.by_name[name].pid, self.by_name[name].alive = pid, True
                news.append(f"restart      {name} runs again, pid {pid}")
            else:
                self.by_name[name] = Worker(name, pid, found["url"])
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise UnavailableError(f"the workers ended with exit code {code}. The end of {self.log}:\n{self._tail()}")
        return news

    async def ready(self) -> None:
        """Returns when every worker says that it is ready.

        Raises:
            UnavailableError: They ended or were not ready in time.
        """
        deadline_s = time.monotonic() + _READY_S
        while True:
            self.look()
            if len(self.by_name) == INGEST + STATE and all(
                [await _answers_ready(worker.url) for worker in self.by_name.values()]
            ):
                return
            if time.monotonic() > deadline_s:
                raise UnavailableError(
                    f"the workers were not ready within {_READY_S:.0f} s. The end of {self.log}:\n{self._tail()}"
                )
            await asyncio.sleep(_POLL_S)

    def kill_one(self, random: np.random.Generator) -> str | None:
        """Sends SIGKILL to a running worker, of those killed least. Returns what to tell; None when none may be."""
        running = [w for w in self.by_name.values() if w.alive and w.kills < KILLS_PER_WORKER_MAX]
        if not running:
            return None
        fewest = min(worker.kills for worker in running)
        candidates = sorted((w for w in running if w.kills == fewest), key=lambda worker: worker.name)
        victim = candidates[int(random.integers(len(candidates)))]
        victim.alive = False
        try:
            os.kill(victim.pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended by itself just now
            return None
        victim.kills += 1
        return f"kill -9      {victim.name}, pid {victim.pid}"

    async def stop(self, wait_s: float) -> None:
        """Ends the workers in order, after `wait_s` with SIGKILL."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, wait_s)
        self.kill()

    def kill(self) -> None:
        """Leaves no process behind, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the supervisor leads the session
        self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  | {line}" for line in lines)


async def _answers_ready(metrics_url: str) -> bool:
    """Returns whether `/readyz` beside a `/metrics` answers 200."""
    host, _, port = metrics_url.removeprefix("http://").partition("/")[0].rpartition(":")
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(f"GET /readyz HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status


def _free_ports(count: int) -> int:
    """Returns the first of `count` free ports in a row, the usual ones if nobody has them."""
    first: int
    for first in [METRICS_PORT, *range(METRICS_PORT + 10_000, METRICS_PORT + 20_000, count)]:
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise UnavailableError("no free loopback ports for /metrics between 19464 and 29464")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
