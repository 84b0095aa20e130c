"""Keeps one process per role running: restarts a crashed one with backoff, gives up on one that keeps crashing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream.config import exit_codes

SUPERVISOR_PID = "QMA_SUPERVISOR_PID"
"""Tells a child whose death is its own."""

_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to restart, to give up and to stop waiting.

    Args:
        crashes_max: So many crashes of one child ...
        crash_window_s: ... within this time, and the supervisor gives up.
        backoff_first_s: Pause before the first restart; it doubles with every crash ...
        backoff_max_s: ... up to this. Also the pause after a child that found no broker.
        stop_s: A child that has not ended this long after SIGTERM is killed.
    """

    crashes_max: int = 5
    crash_window_s: float = 300.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 8.0
    stop_s: float = 12.0


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
        """Starts the process; says so on stderr.

        It gets a process group of its own: a Ctrl-C is for the supervisor, which then stops its children in order.
        """
        environment = {**os.environ, SUPERVISOR_PID: str(os.getpid())}
        self.process = subprocess.Popen(self.command, env=environment, process_group=0)
        _say(f"{self.name}: started, pid {self.process.pid}, {self.url}")

    def ended(self) -> int | None:
        """Returns the exit code of a process that ended since the last call; None while it runs."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is not None:
            self.process = None
        return code

    def crashed(self, now_s: float, limits: Limits) -> bool:
        """Notes a crash and plans the restart. Returns whether to give up instead."""
        self.crashes_s = [at_s for at_s in self.crashes_s if at_s > now_s - limits.crash_window_s] + [now_s]
        backoff_s = min(limits.backoff_first_s * 2 ** (len(self.crashes_s) - 1), limits.backoff_max_s)
        self.start_at_s = now_s + backoff_s
        return len(self.crashes_s) >= limits.crashes_max


def supervise(children: Sequence[Child], limits: Limits | None = None) -> int:
    """Runs the children until SIGTERM or SIGINT, or until one crashes five times in five minutes.

    A child that asks for the operator (exit code 78) is not restarted: nothing would change. One that finds no broker
    (69) has not crashed: it is started again for as long as it takes.

    Args:
        children: What to run.
        limits: When to restart, to give up and to stop waiting.

    Returns:
        0 after a signal, 78 or 70 otherwise.
    """
    limits = limits or Limits()
    stopping: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda received, _: stopping.append(received)) for number in numbers]
    code = 0
    try:
        while not stopping and not code:
            code = _tend(children, time.monotonic(), limits)
            time.sleep(_POLL_S)
    finally:
        _stop(children, limits)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    return code


def _tend(children: Sequence[Child], now_s: float, limits: Limits) -> int:
    """Starts what is due and looks after what ended. Returns the code to give up with, or 0."""
    for child in children:
        ended = child.ended()
        if ended == exit_codes.CONFIG:
            _say(f"{child.name}: needs you, see above; stopping")
            return exit_codes.CONFIG
        if ended == exit_codes.UNAVAILABLE:
            child.start_at_s = now_s + limits.backoff_max_s
        elif ended is not None and child.crashed(now_s, limits):
            _say(
                f"{child.name}: ended with {_how(ended)}, crash {limits.crashes_max} within "
                f"{limits.crash_window_s / 60:g} minutes; giving up, see above for why"
            )
            return exit_codes.CRASHED
        if ended is not None:
            _say(f"{child.name}: ended with {_how(ended)}, restarts in {child.start_at_s - now_s:.1f} s")
        if child.process is None and now_s >= child.start_at_s:
            child.start()
    return 0


def _stop(children: Sequence[Child], limits: Limits) -> None:
    running = [(child.name, child.process) for child in children if child.process is not None]
    for _, process in running:
        process.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + limits.stop_s
    for name, process in running:
        try:
            code = process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            _say(f"{name}: still there {limits.stop_s:g} s after SIGTERM, killed; the next start replays")
        else:
            _say(f"{name}: stopped" if code == 0 else f"{name}: ended with {_how(code)}; the next start replays")


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
