"""Commands on a real broker: what they refuse, what they remember, what they warn of."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.core.slo.spec import Bundle, Source
from stream.kafka.config_topic import read_bundle
from tests.cli.conftest import ROOT, Qma, free_ports
from tests.cli.test_pipeline import get, worker
from tests.cli.test_supervisor import lives

pytestmark = pytest.mark.kafka

AVAILABILITY, LATENCY, METRICS = (
    str(ROOT / "deploy" / "slo" / f"checkout-{name}.yaml") for name in ("availability", "latency", "http-duration")
)


def newest(qma: Qma) -> Bundle:
    found = asyncio.run(read_bundle(qma.broker, qma.prefix))
    assert found is not None
    return found[1]


def run_worker(qma: Qma, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `qma worker` until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "stream", "worker", "--broker", qma.broker, "--prefix", qma.prefix, *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("QMA_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_send_refuses_a_topic_that_does_not_exist(qma: Qma):
    sent = qma.send(qma.source, '{"a": 1}\n')

    assert (sent.returncode, sent.stdout) == (78, "")
    assert sent.stderr == (
        f"qma: no topic {qma.source} at {qma.broker}; create it with `qma topics apply --source {qma.source}`\n"
    )


def test_a_source_is_created_however_it_is_written_and_what_is_no_name_is_said(qma: Qma):
    sources = ("--source", f"{qma.prefix}app=logs:otlp_json", "--source", f"{qma.prefix}otlp_spans")
    code, out, err = qma("topics", "apply", "--partitions", "1", *sources)
    assert code == 0, out + err
    assert [f"created {qma.prefix}{name}: 1 partitions" in out for name in ("app", "otlp_spans")] == [True, True]

    code, _, err = qma("topics", "apply", "--source", "my topic")
    assert code == 78
    assert "'my topic' is not the name of a topic" in err


@pytest.mark.parametrize("command", [("apply", AVAILABILITY), ("tail", "sli"), ("ledger",)])
def test_without_topics_a_command_says_how_to_create_them(qma: Qma, command: tuple[str, ...]):
    code, _, err = qma(*command)

    assert code == 78
    assert f"no topic {qma.prefix}" in err
    assert "`qma topics apply`" in err


def test_topics_are_created_once_and_a_difference_is_named_but_not_altered(qma: Qma):
    source = ("--source", qma.source)
    code, out, _ = qma("topics", "show", *source)
    assert code == 1
    assert f"{qma.source}: missing; create it with `qma topics apply --source {qma.source}`" in out.splitlines()

    qma.create()

    # Neither asks again for the 4 partitions that the log was created with.
    assert qma("topics", "apply", *source)[:2] == (0, "10 topics, 0 created; the others are as they must be\n")
    assert qma("topics", "show", *source)[0] == 0
    code, out, _ = qma("topics", "show", "--partitions", "5", *source)
    assert code == 1
    assert f"  {qma.prefix}shuffle: partitions is 4, wanted 5; run with --partitions 4, or delete" in out
    code, out, err = qma("topics", "apply", "--partitions", "5", *source)
    assert (code, out) == (78, "")
    assert "topics are not as they must be:" in err


def test_the_clock_of_the_log_is_remembered(qma: Qma):
    source = ("--source", qma.source)
    assert qma("topics", "apply", "--partitions", "1", "--clock", "source", *source)[0] == 0

    assert qma("topics", "show", *source)[0] == 0
    code, out, _ = qma("topics", "show", "--clock", "broker", *source)
    assert code == 1
    assert "message.timestamp.type is CreateTime, wanted LogAppendTime" in out


def test_what_is_not_said_again_stays_as_it_was_applied(qma: Qma):
    qma.create()
    changes = ("--set", "duplicate_minutes=0", "--set", "limits.items=1000")
    first = ("--source", f"{qma.source}=flat", "--publish-sketches", "--generation", "7", *changes)
    assert qma("apply", AVAILABILITY, *first)[0] == 0
    before = newest(qma)

    code, out, _ = qma("apply", AVAILABILITY, LATENCY)

    assert code == 0
    assert out.splitlines()[-1] == "2 objectives applied as version 1"
    after = newest(qma)
    assert (after.sources, after.settings, after.generation) == (before.sources, before.settings, "7")
    assert after.settings.publish_sketches
    assert (after.settings.duplicate_minutes, after.settings.limits.items) == (0, 1000)
    assert {objective.name: objective.since for objective in after.objectives} == {
        "checkout-availability": 0,
        "checkout-latency": None,
    }

    assert qma("apply", AVAILABILITY, "--no-publish-sketches")[0] == 0
    assert not newest(qma).settings.publish_sketches


def test_pipelines_of_different_prefixes_have_different_names(qma: Qma):
    qma.create()
    assert qma("apply", AVAILABILITY, "--source", f"{qma.source}=flat")[0] == 0

    assert newest(qma).pipeline == qma.prefix.rstrip(".")


def test_a_source_that_does_not_exist_is_warned_of(qma: Qma):
    qma.create()
    code, out, err = qma("apply", AVAILABILITY, "--source", f"{qma.source}=flat", "--source", f"{qma.prefix}no=flat")

    assert code == 0
    assert out.endswith("applied as version 0\n")
    assert f"the source {qma.prefix}no does not exist; no minute closes before it does" in err


def test_a_source_without_a_known_encoding_is_refused(qma: Qma):
    qma.create()
    for source, said in (("events", "write TOPIC=ENCODING"), ("events=xml", "the encoding `xml` of source `events`")):
        code, _, err = qma("apply", AVAILABILITY, "--source", source)
        assert code == 78
        assert said in err


def test_an_objective_on_metrics_needs_a_source_of_metrics(qma: Qma):
    qma.create()
    source = ("--source", f"{qma.source}=flat")
    code, _, err = qma("apply", METRICS, *source)
    assert code == 78
    assert f"for example: --source {qma.source}=flat --source otlp_metrics=otlp_proto" in err

    assert qma("apply", METRICS, *source, "--source", f"{qma.prefix}m=metrics:otlp_json")[0] == 0
    assert newest(qma).sources[1] == Source(topic=f"{qma.prefix}m", encoding="otlp_json", signal="metrics")
    assert newest(qma).attributes == ("http.request.method",)


def test_a_ledger_without_a_checkpoint_is_not_known_yet(qma: Qma):
    qma.create()
    assert qma("apply", AVAILABILITY, "--source", f"{qma.source}=flat")[0] == 0
    assert qma.send(qma.source, "one\ntwo\n\nthree\n").returncode == 0

    code, out, _ = qma("ledger")

    assert code == 2
    assert out.startswith("no checkpoint yet, nothing to compare; 3 messages wait in the sources: is a `qma worker`")
    assert qma("ledger", "--json")[:2] == (2, "")


def test_a_worker_without_topics_ends_with_78_and_says_how_to_create_them(qma: Qma):
    ran = run_worker(qma, "--listen", "127.0.0.1:29564")

    assert ran.returncode == 78
    assert "`qma topics apply`" in ran.stderr
    assert "needs you, see above; stopping" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("role", ["state", "ingest"])
def test_a_worker_whose_address_is_taken_ends_with_78_and_says_which(qma: Qma, role: str):
    qma.create()
    assert qma("apply", AVAILABILITY, "--source", f"{qma.source}=flat")[0] == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = run_worker(qma, "--only", role, "--listen", listen)

    assert ran.returncode == 78, ran.stderr
    assert f"cannot listen on {listen}: " in ran.stderr
    assert "choose another address with --listen HOST:PORT" in ran.stderr


def test_workers_whose_supervisor_is_killed_end_by_themselves(qma: Qma, tmp_path: Path):
    qma.create()
    assert qma("apply", AVAILABILITY, "--source", f"{qma.source}=flat")[0] == 0
    port, log = free_ports(), tmp_path / "worker.log"
    with worker(qma, port, log) as supervisor:
        wait_until(lambda: all(is_ready(port + role) for role in (0, 1)), log)

        supervisor.kill()
        supervisor.wait()

        pids = [int(pid) for pid in re.findall(r"started, pid (\d+),", log.read_text())]
        assert len(pids) == 2
        wait_until(lambda: not any(lives(pid) for pid in pids), log)


def is_ready(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    """Returns when `condition` holds; fails with the worker's log after half a minute."""
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.1)


def test_an_event_is_shown_whole_on_request(qma: Qma, tmp_path: Path):
    qma.create()
    event = {"time": "2026-01-01T00:00:00.000Z", "data": {"position": "t/0/1", "items": 2, "reason": "future"}}
    event["data"]["detail"] = None  # type: ignore[index]
    assert qma.send(f"{qma.prefix}deadletter", json.dumps(event) + "\n").returncode == 0

    shown = [qma("tail", "deadletter", "--from-beginning", "--max", "1", *json_) for json_ in ((), ("--json",))]

    assert shown[0][:2] == (0, "2026-01-01T00:00:00.000Z t/0/1: 2 items rejected, future\n")
    assert json.loads(shown[1][1]) == event
