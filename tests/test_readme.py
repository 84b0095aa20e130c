"""The README's commands and transcripts are executed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stream.kafka.local import LocalKafka
from tests.cli.conftest import free_ports

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def code_blocks(section: str) -> list[str]:
    """Returns the indented blocks of a section, dedented."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n(?:^ *\n(?=    ))?)+", text, re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks]


def transcripts() -> list[tuple[str, str]]:
    """Returns (command, expected output) of every block that shows a command behind `$`."""
    shown = [block for block in re.findall(r"(?:^    .*\n)+", README, re.MULTILINE) if block.startswith("    $ ")]
    pairs = [textwrap.dedent(block).split("\n", 1) for block in shown]
    return [(command.removeprefix("$ "), output) for command, output in pairs]


@pytest.mark.parametrize(("command", "output"), transcripts())
def test_a_transcript_is_what_the_command_prints(command: str, output: str):
    ran = subprocess.run(
        shlex.split(command), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.stdout + ran.stderr == output


@pytest.mark.kafka
def test_the_commands_for_ones_own_kafka_count_ones_own_event(kafka: LocalKafka, topic_prefix: str, tmp_path: Path):
    setup, send, *_ = code_blocks("On your own Kafka")
    environment = {**ENVIRONMENT, "QMA_BROKER": kafka.bootstrap, "QMA_PREFIX": topic_prefix}
    environment["QMA_LISTEN"] = f"127.0.0.1:{free_ports()}"
    lines = [line for line in setup.splitlines() if not line.startswith("export QMA_BROKER=")]
    assert lines[-1].startswith("qma worker")

    def run(script: str) -> str:
        ran = subprocess.run(
            ["bash", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run("\n".join(lines[:-1]))
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(shlex.split(lines[-1], comments=True), env=environment, stderr=log)
    try:
        commands = send.replace("--wait 10", "--wait 60 --json")
        printed = run(commands)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0, (tmp_path / "worker.log").read_text()

    accounts = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert sum(account["counted"] for account in accounts) == 1
    assert all(account["is_equal"] for account in accounts)
