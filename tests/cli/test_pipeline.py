"""What the README tells a new user to do on a Kafka that runs already."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.cli.conftest import ROOT, Qma, free_ports

OBJECTIVE = str(ROOT / "deploy" / "slo" / "checkout-availability.yaml")
EVENTS = 40
STOP_S = 15.0


def flat_events() -> str:
    """Returns events of one service, one that failed among them, a line each; one line more is no event."""
    now_ms = time.time_ns() // 1_000_000
    events = [
        {
            "environment": "production",
            "namespace": "shop",
            "service": "checkout",
            "version": "1.4.2",
            "time": (now_ms - 100 * number) * 1_000_000,
            "duration_ms": 12.5,
            "status": "error" if number == 7 else "ok",
        }
        for number in range(EVENTS)
    ]
    return "".join(f"{json.dumps(event)}\n" for event in events) + "no event\n"


@contextmanager
def worker(qma: Qma, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `qma worker`; whatever a failing test leaves of it is killed."""
    command = ["worker", "--broker", qma.broker, "--prefix", qma.prefix, "--listen", f"127.0.0.1:{port}"]
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-m", "stream", *command], cwd=ROOT, stdout=sink, stderr=sink)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()  # its children notice
            process.wait()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(port: int, name: str) -> float:
    """Returns the sum over all series of a metric."""
    families = parse(get(port, "/metrics")[1])
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.kafka
def test_a_new_user_creates_applies_runs_sends_and_counts(qma: Qma, tmp_path: Path):
    source = ("--source", qma.source)

    code, created, _ = qma("topics", "apply", "--partitions", "4", *source)
    assert code == 0
    assert f"created {qma.source}: 4 partitions, replication 1" in created
    code, shown, _ = qma("topics", "show", *source)
    assert (code, len(shown.splitlines())) == (0, len(created.splitlines()) - 1)

    code, applied, warned = qma("apply", OBJECTIVE, "--source", f"{qma.source}=flat")
    assert code == 0
    assert [line.partition(": warning: ")[2][:34] for line in warned.splitlines()] == [
        "spec.objectives[0].target: counts "
    ]
    assert applied.splitlines()[-1] == "1 objective applied as version 0"

    port, log = free_ports(), tmp_path / "worker.log"
    with worker(qma, port, log) as supervisor:
        sent = qma.send(qma.source, flat_events())
        assert (sent.returncode, sent.stderr) == (0, "")
        assert sent.stdout == f"{EVENTS + 1} messages acknowledged on {qma.source}\n"

        code, counted, _ = qma("ledger", "--wait", "60")
        assert code == 0, counted + log.read_text()
        total = next(line.split() for line in reversed(counted.splitlines()) if line.split()[1:2] == ["41"])
        assert total[1:9] == ["41", "40", "0", "0", "1", "0", "0", "0"]
        assert counted.splitlines()[-1] == "equal: received = counted + duplicate + late + rejected, for every source"

        assert [get(port + role, "/readyz") for role in (0, 1)] == [(200, "ok\n")] * 2
        assert [get(port + role, "/healthz") for role in (0, 1)] == [(200, "ok\n")] * 2
        assert metric(port, "qma_items_counted_total") == EVENTS
        assert metric(port, "qma_items_rejected_total") == 1
        assert metric(port + 1, "qma_ingest_messages_total") == EVENTS + 1
        assert metric(port + 1, "process_resident_memory_bytes") > 0

        code, refused, _ = qma("tail", "deadletter", "--from-beginning", "--max", "1")
        assert code == 0
        assert f"{qma.source}/" in refused
        assert "1 item rejected, malformed" in refused

        pids = [int(pid) for pid in re.findall(r"started, pid (\d+),", log.read_text())]
        assert len(pids) == 2
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(STOP_S) == 0

    said = log.read_text()
    assert "state-1: stopped\n" in said
    assert "ingest-1: stopped\n" in said
    assert "Traceback" not in said
    assert not any(exists(pid) for pid in pids)
