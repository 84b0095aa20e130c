"""A small process between a program and its broker, so that no broker outlives the program that started it.

It runs a command as its child and ends it, with SIGKILL, as soon as the starter is gone, however it went: a killed
starter closes the pipe that is our standard input, and we get another parent. (The kernel's parent-death signal alone
would not do: it fires when the starting *thread* ends, and only Linux has it. Here it covers our own death.)

Usage: local_guard.py STARTER_PID SCRATCH COMMAND...   SCRATCH, when not empty, is a directory to remove with an orphan.
Prints the command's process id. Imports nothing of the package: it starts in milliseconds.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys

POLL_S = 1.0
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Runs the command to its end and returns its exit status; 70 when the starter vanished first."""
    starter, scratch, command = int(arguments[0]), arguments[1], arguments[2:]
    wake = _wake_when_child_ends()
    # A terminal's Ctrl-C does not reach us (own session); a polite SIGTERM to us is passed on.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), preexec_fn=_die_with_parent
    ) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        _say(child.pid)
        while child.poll() is None:
            if _starter_is_gone(starter, wake):
                child.kill()
                child.wait()
                if scratch:
                    shutil.rmtree(scratch, ignore_errors=True)
                return 70
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _say(pid: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{pid}\n".encode())
    os.dup2(2, 1)  # nobody reads that pipe again; the command's own output goes to our standard error


def _wake_when_child_ends() -> int:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _starter_is_gone(starter: int, wake: int) -> bool:
    ready, _, _ = select.select([0, wake], [], [], POLL_S)
    if wake in ready:
        os.read(wake, 4096)
    # The parent is asked for too: a forked sibling may hold the other end of the pipe open.
    return (0 in ready and os.read(0, 1) == b"") or os.getppid() != starter


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
