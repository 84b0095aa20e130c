"""`qma notify`: what it refuses before it reads anything, and its end."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from stream.cli import notify as command
from stream.core.errors import ConfigError
from stream.kafka.local import LocalKafka
from stream.kafka.topics import apply, pipeline_topics

ROOT = Path(__file__).parents[2]


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return parser.parse_args(arguments)


def test_an_alertmanager_must_be_named(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parsed()

    assert "--alertmanager" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--alertmanager", "localhost:9093"], "is not an address; write for example http://localhost:9093"),
        (["--alertmanager", "http://am", "--ca-file", "missing.pem"], "missing.pem: no certificates to read"),
        (["--alertmanager", "http://am", "--bearer-token-file", "missing"], "missing cannot be read"),
        (["--alertmanager", "http://am"], "no broker is named"),
    ],
)
def test_what_cannot_be_is_said_at_once(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("QMA_BROKER", raising=False)
    asked = parsed(*arguments)

    with pytest.raises(ConfigError, match=said):
        asked.run(asked)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.kafka
def test_it_is_ready_shows_its_metrics_and_ends_on_sigterm(kafka: LocalKafka, topic_prefix: str):
    asyncio.run(apply(kafka.bootstrap, pipeline_topics(topic_prefix, 1, 1, "LogAppendTime")))
    listen, nobody = f"127.0.0.1:{free_port()}", f"http://user:s3cret@127.0.0.1:{free_port()}"
    command_line = [
        *(sys.executable, "-m", "stream", "notify", "--alertmanager", nobody, "--listen", listen),
        *("--broker", kafka.bootstrap, "--prefix", topic_prefix),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QMA_")}
    with subprocess.Popen(command_line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline_s = time.monotonic() + 60
            while not _answers(f"http://{listen}/readyz"):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline_s
                time.sleep(0.1)
            with urllib.request.urlopen(f"http://{listen}/metrics") as answer:
                assert b"qma_notify_alerts_sent_total" in answer.read()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert "s3cret" not in said
    assert "Traceback" not in said


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
