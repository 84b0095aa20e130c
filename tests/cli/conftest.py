"""Fixtures of the command line's tests: commands on a real broker, under names that no other test has."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream.cli import main
from stream.kafka.local import LocalKafka

ROOT = Path(__file__).parents[2]


def free_ports() -> int:
    """Returns a port that is free, as the next one is."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except OSError:
                continue
        return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Qma:
    """The commands of one pipeline: a prefix and a source of its own on the session's broker."""

    broker: str
    prefix: str

    @property
    def source(self) -> str:
        """The source topic."""
        return f"{self.prefix}telemetry.events"

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Runs a command in this process. Returns exit code, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*arguments, "--broker", self.broker, "--prefix", self.prefix])
        return code, out.getvalue(), err.getvalue()

    def create(self) -> None:
        """Creates the topics, with one source and four partitions."""
        code, out, err = self("topics", "apply", "--partitions", "4", "--source", self.source)
        assert code == 0, out + err

    def send(self, topic: str, text: str) -> subprocess.CompletedProcess[str]:
        """Runs `qma send` with `text` as its standard input."""
        command = ["send", topic, "--broker", self.broker, "--prefix", self.prefix]
        return subprocess.run(
            [sys.executable, "-m", "stream", *command],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("QMA_")},
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def qma(kafka: LocalKafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Qma:
    """The commands of a new pipeline; nothing is created yet."""
    for name in ("QMA_BROKER", "QMA_PREFIX", "QMA_LISTEN", "QMA_METRICS_SLOTH"):
        monkeypatch.delenv(name, raising=False)
    return Qma(broker=kafka.bootstrap, prefix=topic_prefix)
