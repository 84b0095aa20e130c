"""The whole demo as a user starts it: a Kafka of its own, the workers as processes, one of them killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream.demo import story

ROOT = Path(__file__).parents[2]


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stream", "demo", *arguments]


def broker_processes(directory: Path) -> list[str]:
    """Returns the command lines of running processes of a broker whose data are below `directory`."""
    found = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if str(directory) in line]


def worker_pids(directory: Path) -> list[int]:
    """Returns the process ids of the workers that a demo below `directory` has started, and of their supervisor."""
    log = next(directory.glob("qma-demo-*/workers.log")).read_text()
    children = [int(pid) for pid in re.findall(r": started, pid (\d+)", log)]
    parents = [parent for pid in children if (parent := _stat(pid)[1])]
    return children + [int(parent) for parent in parents]


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie, dead but not yet reaped, does not."""
    return _stat(pid)[0] not in ("", "Z")


def _stat(pid: int) -> tuple[str, str]:
    found = subprocess.run(["ps", "-o", "stat=,ppid=", "-p", str(pid)], capture_output=True, text=True)
    state, _, parent = found.stdout.strip().partition(" ")
    return state[:1], parent.strip()


@pytest.mark.kafka
def test_ledger_is_equal_though_a_worker_is_killed(tmp_path: Path) -> None:
    result_file = tmp_path / "result.json"
    arguments = ("--seed", "3", "--duration", "15", "--kill-workers", "1", "--json", str(result_file))
    done = subprocess.run(
        demo(*arguments), cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    result = json.loads(result_file.read_text())
    assert result["ledger_equal"]
    assert result["seed"] == 3
    assert result["produced"] == result["received"] > story.STORY_SPANS_MIN
    assert result["received"] == (
        result["counted"] + result["duplicate"] + result["late"] + sum(result["rejected"].values())
    )
    assert sorted(result["topics"]) == ["otlp_logs", "otlp_metrics", "otlp_spans", "telemetry.events"]
    assert all(topic["equal"] for topic in result["topics"].values())
    assert result["late"] == 5
    assert result["rejected"] == {"future": 5, "malformed": 4, "missing_field": 1, "wrong_type": 1}
    assert result["deadletter_events"] == 10
    for topic, items in result["topics"].items():
        assert bool(items["duplicate"]) == (topic != "telemetry.events")
    assert (result["kills"], result["repeated_events"]) == (1, 0)
    assert result["sli_events"] > 0
    assert result["burn_rate_events"] > 0
    assert result["certificates"] == {
        f"{story.CHECKOUT.key} v1": "issued",
        f"{story.CHECKOUT.key} v2": "revoked",
        f"{story.GIFTCARDS.key} v1": "pending",
        f"{story.ORDERS.key} v1": "issued",
        f"{story.SEARCH.key} v1": "issued",
        f"{story.SHIPPING.key} v1": "issued",
        f"{story.STOREFRONT.key} v1": "issued",
    }
    assert "PAGE  checkout" in done.stdout
    assert "decidable in about" in done.stdout
    assert not broker_processes(tmp_path), "a process is left behind"
    assert not list(tmp_path.glob("qma-*")), "a directory is left behind"


@pytest.mark.kafka
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        running = subprocess.Popen(
            demo("--duration", "120"),
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + 120
        while b"the story begins" not in (tmp_path / "out").read_bytes():
            assert time.monotonic() < deadline_s, (tmp_path / "out").read_text()
            assert running.poll() is None, (tmp_path / "out").read_text()
            time.sleep(0.1)
        workers = worker_pids(tmp_path)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    finally:
        running.kill()
    assert len(set(workers)) == 4
    assert not [pid for pid in workers if runs(pid)], "a worker is left behind"
    assert not broker_processes(tmp_path), "a process is left behind"
    assert not list(tmp_path.glob("qma-*")), "a directory is left behind"
