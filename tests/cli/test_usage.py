"""Exit codes and messages, as somebody sees them who calls `qma`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream.cli import main

ROOT = Path(__file__).parents[2]
OBJECTIVES = sorted(str(path) for path in (ROOT / "deploy" / "slo").glob("*.yaml"))
COMMANDS = (
    *("demo", "plan", "validate", "slo import sloth", "topics apply", "topics show", "apply", "worker", "send", "tail"),
    *("ledger", "decode", "doctor", "status", "notify", "explain", "replay", "backfill"),
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QMA_BROKER", "QMA_PREFIX", "QMA_LISTEN", "QMA_METRICS_SLOTH"):
        monkeypatch.delenv(name, raising=False)


def qma(*arguments: str) -> tuple[int, str, str]:
    """Returns exit code, stdout and stderr of the program in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QMA_")}
    ran = subprocess.run(
        [sys.executable, "-m", "stream", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "arguments are required: COMMAND"),
        ("ledgr", "invalid choice: 'ledgr'"),
        ("apply", "arguments are required: FILE"),
        ("send", "arguments are required: TOPIC"),
        ("tail certificates", "invalid choice: 'certificates'"),
        ("tail sli --max 0", "'0' is not a whole number from 1 on"),
        ("topics apply --partitions x", "'x' is not a whole number from 1 on"),
        ("topics apply --replication 0", "'0' is not a whole number from 1 on"),
        ("topics apply --source app=logs:", "write TOPIC=ENCODING or TOPIC=SIGNAL:ENCODING"),
        ("worker --state -1", "'-1' is not a whole number from 0 on"),
        ("ledger --wait nan", "'nan' is not a number of seconds"),
        ("ledger --forever", "unrecognized arguments: --forever"),
    ],
)
def test_wrong_usage_is_64_and_points_to_the_help(line: str, said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(line.split())

    printed = capsys.readouterr()
    assert ended.value.code == 64
    assert said in printed.err
    assert "--help` explains" in printed.err
    assert printed.out == ""


def test_wrong_usage_is_64_as_a_program():
    code, out, err = qma("tail", "nothing")

    assert (code, out) == (64, "")
    assert "invalid choice: 'nothing'" in err


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (["--help"], {"numpy", "numba", "aiokafka", "faust", "scipy"}),
        (["validate", *OBJECTIVES], {"numba", "aiokafka", "faust", "scipy.special"}),
    ],
)
def test_what_a_command_does_not_need_it_does_not_wait_for(words: list[str], without: set[str]):
    program = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from stream.cli import main; main(sys.argv[1:])"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "argparse" in ran.stderr.split()
    assert not without & set(ran.stderr.split())


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])

    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert printed.startswith(f"usage: qma {command}".rstrip())
    for word in COMMANDS if not command else ():
        assert f"\n    {word.split()[0]} " in printed


@pytest.mark.parametrize("line", ["topics show", "worker", "send x", "tail sli", "ledger", f"apply {OBJECTIVES[0]}"])
def test_without_a_broker_it_says_how_to_name_one(line: str, capsys: pytest.CaptureFixture[str]):
    assert main(line.split()) == 78

    *warnings, said = capsys.readouterr().err.splitlines()
    assert all(": warning: " in text for text in warnings)
    assert said == "qma: no broker is named; pass --broker HOST:PORT (or --broker local), or set QMA_BROKER"


@pytest.mark.parametrize("line", ["topics apply", "topics show", "send x", "tail sli", "ledger"])
def test_a_broker_that_does_not_answer_is_69_and_named(line: str, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]  # nobody listens here once it is closed

    assert main([*line.split(), "--broker", f"127.0.0.1:{port}"]) == 69

    said = capsys.readouterr().err
    assert said.startswith(f"qma: no Kafka broker answered: 127.0.0.1:{port} (Connection refused)")
    assert "--broker HOST:PORT" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ledger --broker nowhere", "the broker `nowhere` is not an address; write HOST:PORT"),
        ("ledger --broker a:1 --prefix x/", "the topic prefix `x/` cannot start a Kafka topic's name"),
        ("worker --broker a:1 --listen 9464", "the address to listen on `9464` is not HOST:PORT"),
        ("worker --broker a:1 --ingest 0 --state 0", "ask for at least one process"),
    ],
)
def test_a_setting_that_cannot_be_is_78_and_named(line: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(line.split()) == 78
    assert said in capsys.readouterr().err


def test_the_committed_objectives_are_valid_one_line_each(capsys: pytest.CaptureFixture[str]):
    assert main(["apply", "--dry-run", *OBJECTIVES]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "production/shop/checkout checkout-availability: 0.999 of requests succeed, over 30d",
        "production/shop/checkout checkout-flag-evaluations: 0.999 of feature_flag.evaluation events have "
        "feature_flag.result.reason=cached|default|disabled|split|static|targeting_match, over 7d",
        "production/shop/checkout checkout-http-duration: 0.95 of what http.server.request.duration counts with "
        "http.request.method=GET|POST take at most 250 ms, over 30d",
        "production/shop/checkout checkout-latency: 0.95 of requests take at most 200 ms, over 30d",
        "production/shop/order-worker order-events-latency/promise: 0.99 of requests take at most 1500 ms, over 28d",
        "production/shop/order-worker order-events-latency/goal: 0.995 of requests take at most 1500 ms, over 28d",
        "6 objectives valid, nothing was published",
    ]


def test_a_wrong_file_is_78_with_the_place_of_everything_that_is_wrong(capsys: pytest.CaptureFixture[str]):
    broken = str(Path(__file__).with_name("broken.yaml"))

    assert main(["apply", "--dry-run", OBJECTIVES[1], broken]) == 78

    printed = capsys.readouterr()
    assert printed.out == ""
    places = re.findall(rf"^(?:qma: )?{re.escape(broken)}:(\d+):(\d+): (\S+): ", printed.err, re.MULTILINE)
    assert len(places) == len(printed.err.splitlines()) == 2
    assert [path for _, _, path in places] == ["spec.timeWindow[0].isRollin", "spec.objectives[0].target"]


def test_a_file_that_does_not_exist_is_78_and_named(capsys: pytest.CaptureFixture[str]):
    assert main(["apply", "--dry-run", "nowhere.yaml"]) == 78
    assert "nowhere.yaml:1:1: file: cannot be read (No such file" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--source", "spans=avro"), ("--set", "versions_max=none")])
def test_a_dry_run_looks_at_sources_and_limits_too(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    assert main(["apply", "--dry-run", OBJECTIVES[0], *wrong]) == 78
    assert "nothing was published" not in capsys.readouterr().out


def test_an_error_that_nobody_expected_is_70_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stream.cli.apply.read_configuration", broken)

    assert main(["apply", "--dry-run", OBJECTIVES[0]]) == 70

    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "please report it" in said


def test_a_reader_that_leaves_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        ran = subprocess.run(
            [sys.executable, "-m", "stream", "apply", "--dry-run", *OBJECTIVES],
            cwd=ROOT,
            stdout=nobody,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )

    assert ran.returncode == 141
    assert all(b": warning: " in text for text in ran.stderr.splitlines())
