"""Keeps one process per role running: restarts a crashed one with backoff, gives up on one that keeps crashing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

SUPERVISOR_PID = "QMA_SUPERVISOR_PID"
"""Tells a child whose death is its own."""

CRASHES_MAX = 5
CRASH_WINDOW_S = 300.0
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 8.0
STOP_S = 12.0
EXIT_UNAVAILABLE = 69
EXIT_GAVE_UP = 70
EXIT_CONFIG = 78
_POLL_S = 0.1


@dataclass(slots=True, kw_only=True)
class Child:
    """One supervised process.

    Args:
        name: How it is called in messages.
        command: What to run.
        url: Where its metrics are.
    """

    name: str
    command: Sequence[str]
    url: str
    process: subprocess.Popen[bytes] | None = None
    crashes_s: list[float] = field(default_factory=list)
    start_at_s: float = 0.0

    def start(self) -> None:
        """Starts the process; says so on stderr."""
        environment = {**os.environ, SUPERVISOR_PID: str(os.getpid())}
        self.process = subprocess.Popen(self.command, env=environment)
        _say(f"{self.name}: started, pid {self.process.pid}, {self.url}")

    def ended(self) -> int | None:
        """Returns the exit code of a process that ended since the last call; None while it runs."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is not None:
            self.process = None
        return code

    def crashed(self, now_s: float) -> bool:
        """Notes a crash and plans the restart. Returns whether to give up instead."""
        self.crashes_s = [at_s for at_s in self.crashes_s if at_s > now_s - CRASH_WINDOW_S] + [now_s]
        backoff_s = min(BACKOFF_FIRST_S * 2 ** (len(self.crashes_s) - 1), BACKOFF_MAX_S)
        self.start_at_s = now_s + backoff_s
        return len(self.crashes_s) >= CRASHES_MAX


def supervise(children: Sequence[Child]) -> int:
    """Runs the children until SIGTERM or SIGINT, or until one crashes five times in five minutes.

    A child that asks for the operator (exit code 78) is not restarted: nothing would change. One that finds no broker
    (69) has not crashed: it is started again for as long as it takes.

    Returns:
        0 after a signal, 78 or 70 otherwise.
    """
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    code = 0
    try:
        while not stopping and not code:
            code = _tend(children, time.monotonic())
            time.sleep(_POLL_S)
    finally:
        _stop(children)
    return code


def _tend(children: Sequence[Child], now_s: float) -> int:
    """Starts what is due and looks after what ended. Returns the code to give up with, or 0."""
    for child in children:
        ended = child.ended()
        if ended == EXIT_CONFIG:
            _say(f"{child.name}: needs you, see above; stopping")
            return EXIT_CONFIG
        if ended == EXIT_UNAVAILABLE:
            child.start_at_s = now_s + BACKOFF_MAX_S
        elif ended is not None and child.crashed(now_s):
            _say(f"{child.name}: crashed {CRASHES_MAX} times within {CRASH_WINDOW_S / 60:.0f} minutes, giving up")
            return EXIT_GAVE_UP
        if ended is not None:
            _say(f"{child.name}: ended with {_how(ended)}, restarts in {child.start_at_s - now_s:.1f} s")
        if child.process is None and now_s >= child.start_at_s:
            child.start()
    return 0


def _stop(children: Sequence[Child]) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    for process in running:
        try:
            process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
