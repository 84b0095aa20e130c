"""The supervisor over real processes: what it restarts, when it gives up, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.cli.supervisor import Child, Limits

ROOT = Path(__file__).parents[2]
QUICK = {"backoff_first_s": 0.01, "backoff_max_s": 0.05, "stop_s": 5.0}
SLEEPS = "import time; time.sleep(300)"
WAIT_S = 30.0


class Supervisor:
    """A running supervisor; its stderr, and so its children's, goes to a file."""

    def __init__(self, log: Path, *children: str, **limits: float) -> None:
        self._log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.supervised", json.dumps({**QUICK, **limits}), *children],
                cwd=ROOT,
                stderr=sink,
            )

    @property
    def said(self) -> str:
        """What supervisor and children wrote so far."""
        return self._log.read_text()

    @property
    def pids(self) -> list[int]:
        """Every child started so far."""
        return [int(pid) for pid in re.findall(r"started, pid (\d+),", self.said)]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds."""
        deadline_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline_s, self.said
            time.sleep(0.02)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Returns when supervisor or children have written `text` so often."""
        self.wait_until(lambda: self.said.count(text) >= times)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)


def lives(pid: int) -> bool:
    """Returns whether a process runs; a zombie, ended and not yet collected, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


Start = Callable[..., Supervisor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Supervisor] = []

    def start(*children: str, **limits: float) -> Supervisor:
        started.append(Supervisor(tmp_path / f"{len(started)}.log", *children, **limits))
        return started[-1]

    yield start
    for supervisor in started:
        if supervisor.process.poll() is None:
            supervisor.process.kill()
            supervisor.process.wait()
        for pid in supervisor.pids:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)


def test_sigterm_stops_every_child_and_ends_with_0(start: Start):
    supervisor = start(SLEEPS, SLEEPS)
    supervisor.wait_until(lambda: len(supervisor.pids) == 2)

    assert supervisor.end() == 0
    assert not any(lives(pid) for pid in supervisor.pids)


def test_ctrl_c_stops_in_order_too(start: Start):
    orderly = "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(0)); print('up', file=sys.stderr)\n"
    supervisor = start(orderly + "time.sleep(300)")
    supervisor.wait_for("up\n")

    assert supervisor.end(signal.SIGINT) == 0
    assert "child-1: stopped" in supervisor.said


def test_a_child_that_does_not_stop_is_killed_at_the_deadline(start: Start):
    deaf = "import signal,sys,time; signal.signal(15, signal.SIG_IGN); print('deaf', file=sys.stderr); time.sleep(300)"
    supervisor = start(deaf, SLEEPS, stop_s=0.3)
    supervisor.wait_for("deaf\n")
    supervisor.wait_until(lambda: len(supervisor.pids) == 2)

    assert supervisor.end() == 0
    assert "child-1: still there 0.3 s after SIGTERM, killed" in supervisor.said
    assert not any(lives(pid) for pid in supervisor.pids)


def test_a_crashed_child_is_restarted_and_the_other_left_alone(start: Start):
    supervisor = start(SLEEPS, SLEEPS)
    supervisor.wait_until(lambda: len(supervisor.pids) == 2)
    other, crashed = supervisor.pids

    os.kill(crashed, signal.SIGKILL)
    supervisor.wait_until(lambda: len(supervisor.pids) == 3)

    assert "child-2: ended with signal SIGKILL, restarts in " in supervisor.said
    assert lives(other)
    assert supervisor.end() == 0
    assert not any(lives(pid) for pid in supervisor.pids)


def test_the_fifth_crash_ends_everything_with_70(start: Start):
    supervisor = start(SLEEPS, "raise SystemExit(3)")

    assert supervisor.process.wait(WAIT_S) == 70
    assert supervisor.said.count("child-2: started") == 5
    assert "child-2: ended with exit code 3, crash 5 within 5 minutes; giving up" in supervisor.said
    assert not any(lives(pid) for pid in supervisor.pids)


def test_a_child_that_ends_with_0_has_crashed_too(start: Start):
    supervisor = start("pass")

    assert supervisor.process.wait(WAIT_S) == 70


def test_a_child_that_needs_the_operator_ends_everything_with_78_at_once(start: Start):
    supervisor = start(SLEEPS, "raise SystemExit(78)")

    assert supervisor.process.wait(WAIT_S) == 78
    assert supervisor.said.count("child-2: started") == 1
    assert "child-2: needs you, see above; stopping" in supervisor.said
    assert not any(lives(pid) for pid in supervisor.pids)


def test_a_child_without_a_broker_is_restarted_for_as_long_as_it_takes(start: Start):
    supervisor = start("raise SystemExit(69)", crashes_max=2)

    supervisor.wait_for("child-1: started", times=7)

    assert supervisor.end() == 0
    assert "giving up" not in supervisor.said


def test_the_backoff_doubles_up_to_its_limit_and_old_crashes_are_forgotten():
    child, limits = Child(name="child", command=(), url=""), Limits()
    pauses = []
    for crash in range(8):
        now_s = 1_000.0 + 100 * crash  # never five within 300 s
        assert not child.crashed(now_s, limits)
        pauses.append(child.start_at_s - now_s)
    assert pauses == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    gave_up = [Child.crashed(child, 5_000.0 + crash, limits) for crash in range(5)]
    assert gave_up == [False, False, False, False, True]
    assert child.start_at_s - 5_004.0 == 8.0


def test_children_of_a_supervisor_that_was_killed_end_by_themselves(start: Start):
    watching = (
        "import sys, time\n"
        "from stream.cli.worker import _end_with_supervisor\n"
        "_end_with_supervisor()\n"
        "print('watching', file=sys.stderr, flush=True)\n"
        "time.sleep(300)\n"
    )
    supervisor = start(watching, watching)
    supervisor.wait_for("watching\n", times=2)

    supervisor.process.kill()
    supervisor.process.wait()

    supervisor.wait_until(lambda: not any(lives(pid) for pid in supervisor.pids))


def test_a_worker_waits_for_its_broker_and_can_be_stopped_meanwhile(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    log = tmp_path / "worker.log"
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "stream", "worker", "--broker", nobody, "--listen", nobody]
        process = subprocess.Popen(command, cwd=ROOT, stderr=sink)
    try:
        deadline_s = time.monotonic() + WAIT_S
        while log.read_text().count("ended with exit code 69, restarts in 8.0 s") < 2:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        process.wait()

    assert f"no Kafka broker answered: {nobody} (Connection refused)" in log.read_text()


def test_a_process_without_a_supervisor_is_not_watched():
    alone = (
        "import threading\n"
        "from stream.cli.worker import _end_with_supervisor\n"
        "_end_with_supervisor()\n"
        "print(threading.active_count())\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QMA_")}
    ran = subprocess.run(
        [sys.executable, "-c", alone], cwd=ROOT, env=environment, capture_output=True, timeout=60, check=True
    )

    assert ran.stdout == b"1\n"
