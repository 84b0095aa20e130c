"""The workers as processes: started, killed, frozen, woken, restarted; every exit is noted.

The supervisor of `qma worker` is left out on purpose: what dies here must be survived by the protocol alone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream.cli.supervisor import SUPERVISOR_PID
from stream.config import exit_codes
from stream.worker.hooks import VARIABLE as HOOKS

REPOSITORY = Path(__file__).parents[2]
MARK = "CHAOS_FLEET"
"""Environment variable that tells our processes from everybody else's."""

READY_S = 120.0
STOP_S = 10.0

_POLL_S = 0.1
_RESTART_S = 0.5
_CRASHES_MAX = 20


class ChaosFailed(Exception):
    """The run cannot go on; says why."""


@dataclass(slots=True, kw_only=True)
class Exit:
    """How a worker ended by itself."""

    name: str
    code: int
    said: str


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker through all its restarts.

    Args:
        wanted: It is restarted when it ends.
        frozen: We stopped it; nobody else picks it as a victim.
        restart_at_s: Monotonic time of the next start, None while it runs.
    """

    role: str
    name: str
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    wanted: bool = True
    frozen: bool = False
    restart_at_s: float | None = None

    @property
    def alive(self) -> bool:
        """Its process is there; a frozen one too."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def stopped(self) -> bool:
        """The kernel says that it is stopped."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def signal(self, number: int) -> None:
        """Sends a signal to a process that is there."""
        if self.alive:
            assert self.process is not None
            self.process.send_signal(number)

    def last_line(self) -> str:
        """Returns the last line of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return lines[-1] if lines else ""


@dataclass(slots=True, kw_only=True)
class Fleet:
    """All workers of one run.

    Args:
        bootstrap: The broker.
        prefix: Of the pipeline's topics.
        directory: For logs and orders to the test hooks.
        exits: Ends that we did not cause.
        killed: Processes that we killed, at a named step or anywhere.
    """

    bootstrap: str
    prefix: str
    directory: Path
    workers: list[Worker] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    _started: list[tuple[Worker, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def hooks(self) -> Path:
        """Where an order for a named step is placed."""
        return self.directory / "hooks"

    def add(self, role: str, name: str) -> Worker:
        """Starts a new worker."""
        self.hooks.mkdir(parents=True, exist_ok=True)
        worker = Worker(role=role, name=name, log_path=self.directory / f"{name}.log")
        self.workers.append(worker)
        self.start(worker)
        return worker

    def start(self, worker: Worker) -> None:
        """Starts, or starts again, the process of a worker."""
        worker.port, worker.restart_at_s = _free_port(), None
        worker.frozen = False
        command = [sys.executable, "-m", "stream", "worker", "--only", worker.role]
        command += ["--broker", self.bootstrap, "--prefix", self.prefix, "--listen", f"127.0.0.1:{worker.port}"]
        environment = {
            **os.environ,
            HOOKS: str(self.hooks),
            MARK: self.mark,
            SUPERVISOR_PID: str(os.getpid()),  # a harness that is killed leaves nothing behind
        }
        with worker.log_path.open("ab") as output:
            output.write(f"--- start at {time.time():.2f}\n".encode())
            output.flush()
            worker.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=REPOSITORY, env=environment
            )
        self._started.append((worker, worker.process))

    @property
    def mark(self) -> str:
        """What marks our processes."""
        return f"{os.getpid()}-{self.prefix}"

    def running(self, role: str | None = None) -> list[Worker]:
        """Returns the workers that run, neither dead nor frozen nor about to leave."""
        return [
            worker
            for worker in self.workers
            if worker.alive and worker.wanted and not worker.frozen and (role is None or worker.role == role)
        ]

    async def watch(self) -> None:
        """Restarts what ended, for ever.

        Raises:
            ChaosFailed: A worker asks for the operator, or crashes again and again.
        """
        while True:
            await asyncio.sleep(_POLL_S)
            for worker in self.workers:
                if worker.wanted and not worker.alive:
                    self._tend(worker)

    def _tend(self, worker: Worker) -> None:
        now_s = time.monotonic()
        if worker.restart_at_s is None:
            self._note_exit(worker)
            worker.restart_at_s = now_s + _RESTART_S
        elif now_s >= worker.restart_at_s:
            self.start(worker)

    def _note_exit(self, worker: Worker) -> None:
        assert worker.process is not None
        if worker.process.returncode == -signal.SIGKILL:  # at a named step
            return
        ended = Exit(name=worker.name, code=worker.process.returncode, said=worker.last_line()[:400])
        self.exits.append(ended)
        if ended.code == exit_codes.CONFIG:
            raise ChaosFailed(f"{worker.name} asks for the operator: {ended.said}")
        if sum(other.name == worker.name for other in self.exits) > _CRASHES_MAX:
            raise ChaosFailed(f"{worker.name} crashed more than {_CRASHES_MAX} times, last: {ended.said}")

    async def kill(self, worker: Worker, *, down_s: float) -> None:
        """Kills a worker (kill -9); it is started again after `down_s`."""
        worker.restart_at_s = time.monotonic() + down_s
        self.killed.add(worker.pid)
        worker.signal(signal.SIGKILL)
        await self.reap(worker)

    def killed_at_step(self) -> Worker | None:
        """Returns a worker that was killed at a named step and not yet counted; its restart is under way."""
        for worker, process in self._started:
            if process.poll() == -signal.SIGKILL and process.pid not in self.killed:
                self.killed.add(process.pid)
                return worker
        return None

    def frozen_at_step(self) -> Worker | None:
        """Returns a worker that was frozen at a named step and by nobody else."""
        return next((w for w in self.workers if w.alive and w.stopped and not w.frozen), None)

    async def reap(self, worker: Worker) -> int:
        """Returns the exit code of a worker when it has ended."""
        assert worker.process is not None
        return await asyncio.to_thread(worker.process.wait)

    async def freeze(self, worker: Worker, *, for_s: float) -> None:
        """Freezes a worker (SIGSTOP) and wakes it: a zombie, if somebody else took over meanwhile."""
        worker.frozen = True
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(for_s)
        worker.signal(signal.SIGCONT)
        worker.frozen = False

    async def leave(self, worker: Worker) -> tuple[int, float]:
        """Ends a worker in order (SIGTERM). Returns its exit code and how long it took; killed after 20 s."""
        worker.wanted = False
        worker.signal(signal.SIGCONT)
        began_s = time.monotonic()
        worker.signal(signal.SIGTERM)
        reaping = asyncio.ensure_future(self.reap(worker))
        await asyncio.wait({reaping}, timeout=2 * STOP_S)
        worker.signal(signal.SIGKILL)
        code = await reaping
        return code, time.monotonic() - began_s

    async def stop(self) -> dict[str, tuple[int, float]]:
        """Ends all workers at the same time. Returns their exit codes and how long each took."""
        alive = [worker for worker in self.workers if worker.alive]
        left = await asyncio.gather(*(self.leave(worker) for worker in alive))
        return {worker.name: result for worker, result in zip(alive, left, strict=True)}

    def revive(self) -> None:
        """Starts every worker again after `stop`."""
        for worker in self.workers:
            worker.wanted = True
            self.start(worker)

    async def ready(self, workers: Sequence[Worker], within_s: float = READY_S) -> None:
        """Returns when these workers say that they are ready.

        Raises:
            ChaosFailed: One does not in time.
        """
        deadline_s = time.monotonic() + within_s
        waiting = list(workers)
        while waiting:
            waiting = [worker for worker in waiting if not (worker.alive and await _is_ready(worker.port))]
            if waiting and time.monotonic() > deadline_s:
                said = "; ".join(f"{worker.name}: {worker.last_line()[:300]}" for worker in waiting)
                raise ChaosFailed(f"not ready within {within_s:g} s: {said}")
            await asyncio.sleep(_POLL_S)

    def kill_all(self) -> None:
        """Kills whatever is left."""
        for worker in self.workers:
            worker.wanted = False
            if worker.alive:
                worker.signal(signal.SIGKILL)
                assert worker.process is not None
                worker.process.wait()

    def left_behind(self) -> list[int]:
        """Returns the ids of our processes that still exist, theirs included."""
        found = []
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                try:
                    environment = (directory / "environ").read_bytes()
                except OSError:
                    continue
                if f"{MARK}={self.mark}".encode() in environment.split(b"\0"):
                    found.append(int(directory.name))
        return found

    def crashes(self) -> Counter[str]:
        """Returns how often workers ended by themselves, by role and exit code."""
        return Counter(f"{ended.name.rstrip('0123456789')} exit {ended.code}" for ended in self.exits)


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
            line = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in line


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
