"""`qma decode`: what is in messages, row by row and in totals, held against totals that another program counted."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from stream.cli import main
from stream.config import exit_codes
from stream.core.columns import Kind, Status
from stream.core.otlp.decoders import Encoding, sniff
from tests.cli.conftest import Qma
from tests.core.otlp.captures import CAPTURES, GOLDEN
from tests.core.otlp.log_messages import delimited, fixed64, log, request
from tests.core.otlp.spans import T0

Object = dict[str, Any]


@pytest.fixture
def decode(capsys: pytest.CaptureFixture[str]):
    """Runs the command; returns exit code, the objects of its lines, and what it said."""

    def run(*arguments: object) -> tuple[int, list[Object], str]:
        code = main(["decode", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, [json.loads(line) for line in captured.out.splitlines()], captured.err

    return run


def by_name(entries: list[Object], *names: str) -> dict[tuple[Any, ...], Object]:
    found = {tuple(entry[name] for name in names): entry for entry in entries}
    assert len(found) == len(entries), "each name has one entry"
    return found


def named(key: str) -> tuple[Any, ...]:
    """A name of the truth as the command gives it: what is a list or map counts as absent."""
    return tuple(None if part == "<array_value>" else part for part in json.loads(key))


def known(counts: dict[str, int], names: type[Kind] | type[Status]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts.items():
        total[name if name in names.__members__ else names(0).name] += count
    return dict(total)


@pytest.mark.parametrize("encoding", ["auto", "otlp_proto"])
@pytest.mark.parametrize("name", [name for name in CAPTURES if name != "edge"])
def test_totals_of_traces_equal_the_truth(decode, name, encoding):
    truth = json.loads((GOLDEN / f"{name}.traces.truth.json").read_text())
    file = GOLDEN / f"{name}.traces.jsonl.gz"
    code, (totals,), _ = decode("--signal", "traces", "--encoding", encoding, "--summary", file)
    assert (code, totals["messages"], totals["rows"], totals["rejected"]) == (0, truth["records"], truth["spans"], {})
    services = by_name(totals["by_service"], "service", "version")
    assert services.keys() == {named(key) for key in truth["by_service"]}
    for key, expected in truth["by_service"].items():
        found = services[named(key)]
        assert found.pop("weight_sum") == pytest.approx(expected["adjusted_count_th"], abs=1e-4)
        assert found == {
            "service": named(key)[0],
            "version": named(key)[1],
            "rows": expected["spans"],
            "kind": known(expected["kind"], Kind),
            "status": known(expected["status"], Status),
            "duration_ns_sum": expected["duration_ns_sum"],
            "negative_duration": expected["negative_duration"],
            "over_threshold": expected["over_100ms"],
            "weight_unknown": expected["spans"] - expected["valid_th"],
        }


@pytest.mark.parametrize("name", CAPTURES)
def test_totals_of_logs_equal_the_truth(decode, name):
    truth = json.loads((GOLDEN / f"{name}.logs.truth.json").read_text())
    _, (totals,), _ = decode("--signal", "logs", "--summary", GOLDEN / f"{name}.logs.jsonl.gz")
    refused = totals["rejected"].pop("missing_field", 0)
    assert totals["rejected"] == {}
    assert totals["rows"] + refused == truth["log_records"]
    services = by_name(totals["by_service"], "service", "version")
    assert services.keys() == {named(key) for key in truth["by_service"]}
    for key, expected in truth["by_service"].items():
        severities: Counter[str] = Counter()
        for number, count in expected["severity"].items():
            severities[number if 1 <= int(number) <= 24 else "0"] += count
        if named(key) == (None, None):
            severities["0"] -= refused  # sent with no time at all
        assert services[named(key)]["severity"] == severities


@pytest.mark.parametrize("name", ["app_default", "tgen"])
def test_totals_of_metrics_equal_the_truth(decode, name):
    truth = json.loads((GOLDEN / f"{name}.metrics.truth.json").read_text())
    _, (totals,), _ = decode("--signal", "metrics", "--summary", GOLDEN / f"{name}.metrics.jsonl.gz")
    assert (totals["rows"], totals["rejected"]) == (truth["points"], {})
    metrics = by_name(totals["by_metric"], "name", "type", "temporality", "unit")
    assert metrics.keys() == {tuple(json.loads(key)[:4]) for key in truth["by_metric"]}
    for key, expected in truth["by_metric"].items():
        found = metrics[tuple(json.loads(key)[:4])]
        total = expected.get("sum_finite", expected.get("sum", expected.get("int_sum")))
        assert found["points"] == expected["points"]
        assert found["count"] == expected.get("count")
        assert found["sum"] == pytest.approx(total)
        buckets = {json.dumps(part["bounds"]): part["counts"] for part in found["buckets"]}
        assert buckets == expected.get("buckets_by_bounds", {})


def test_a_service_is_named_as_it_was_sent(decode, tmp_path):
    resources = ((), (("service.name", 42), ("service.version", True)), (("service.name", "unknown_service"),))
    file = tmp_path / "message"
    parts = (request([log(("service.name", "an item's"))], resource=resource) for resource in resources)
    file.write_bytes(b"".join(part.SerializeToString() for part in parts))
    _, (totals,), _ = decode("--signal", "logs", "--summary", file)
    # A record's own attribute hides what its resource has where that is no text, and is not taken for it.
    names = [(each["service"], each["version"]) for each in totals["by_service"]]
    assert names == [(None, None), (None, True)]


def test_one_line_a_row_and_a_refusal(decode, tmp_path):
    good = request([log(("team", "shop"), severity_number=17, trace_id=b"\x01" * 16)]).SerializeToString()
    file = tmp_path / "messages.jsonl"
    file.write_text("".join(json.dumps({"value": encoded(value)}) + "\n" for value in (good, b"\xff", None, good)))
    code, (first, second, third), _ = decode("--signal", "logs", "--attributes", "team,size", file)
    assert code == 0
    assert first == {
        "at": f"{file}:1",
        "signal": "log",
        "service": "unknown/-/checkout",
        "version": None,
        "end": "2026-01-02T03:04:05.000000000Z",
        "end_ns": T0,
        "severity": 17,
        "event_name": None,
        "status": "ERROR",
        "code": None,
        "error_type": None,
        "count": 1,
        "weight": 1.0,
        "flags": ["failed", "sampling_unknown"],
        "trace_id": "01" * 16,
        "attributes": {"team": "shop"},
    }
    assert (second["at"], second["refused"], second["items"]) == (f"{file}:2", "malformed", 1)
    assert third == {**first, "at": f"{file}:4"}


def encoded(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def test_encodings_may_change_from_message_to_message(decode, tmp_path):
    proto = request([log()]).SerializeToString()
    text = b' {"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d","severityNumber":9}]}]}]}' % T0
    file = tmp_path / "messages.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.writelines(json.dumps({"value": encoded(value)}) + "\n" for value in (proto, text, b"", proto, text))
    _, rows, _ = decode("--signal", "logs", file)
    assert [(row["at"].rpartition(":")[2], row["severity"]) for row in rows] == [
        ("1", 0),
        ("2", 9),
        ("4", 0),
        ("5", 9),
    ]


def test_a_newline_and_a_brace_are_also_how_a_protobuf_message_of_123_bytes_begins():
    records = delimited(2, delimited(2, fixed64(1, T0) + delimited(3, b"x" * 108)))
    value = delimited(1, records)
    assert value.startswith(b"\n{")
    assert sniff(value) == Encoding.OTLP_PROTO
    assert sniff(b'\n{"resourceLogs":[]}') == Encoding.OTLP_JSON
    assert sniff(b'{"resourceLogs":[]}') == Encoding.OTLP_JSON
    assert sniff(b"\n\x00") == Encoding.OTLP_PROTO


def test_flat_events_and_the_threshold(decode, tmp_path):
    file = tmp_path / "event"
    event = {
        "service": "checkout",
        "version": "1",
        "time": "2026-01-02T03:04:05Z",
        "duration_ms": 250,
        "kind": "client",
    }
    file.write_text(json.dumps(event))
    for threshold, over in ((250, 0), ("249.999999", 1)):
        _, (totals,), _ = decode("--signal", "events", "--summary", "--threshold-ms", threshold, file)
        assert totals["by_service"] == [
            {
                "service": "checkout",
                "version": "1",
                "rows": 1,
                "kind": {"CLIENT": 1},
                "status": {"UNSET": 1},
                "duration_ns_sum": 250_000_000,
                "negative_duration": 0,
                "over_threshold": over,
                "weight_sum": 1.0,
                "weight_unknown": 0,
            }
        ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("message", b"", "is empty; write the bytes of one message into it"),
        ("lines.jsonl", b"\n", "has no lines"),
        ("lines.jsonl", b'{"value": "aGk="}\n{"value": "a"}\n', "lines.jsonl, line 2: `value` is no base64"),
        ("lines.jsonl", b'{"key": null}\n', "lines.jsonl, line 1 has no `value`"),
        ("lines.jsonl", b"\n\n\x12\x03", "lines.jsonl, line 3 is no JSON"),
        ("lines.jsonl.gz", b"no gzip", "lines.jsonl.gz cannot be read (Not a gzipped file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(capsys, tmp_path, name, content, said):
    file: Path = tmp_path / name
    file.write_bytes(content)
    assert main(["decode", "--signal", "logs", str(file)]) == exit_codes.CONFIG
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there(capsys):
    assert main(["decode", "--signal", "logs", "/nowhere/at.all"]) == exit_codes.CONFIG
    assert "/nowhere/at.all cannot be read (No such file or directory)" in capsys.readouterr().err


def test_another_signal_is_said(decode):
    code, lines, said = decode("--signal", "logs", GOLDEN / "tgen.traces.jsonl.gz")
    assert (code, {line["refused"] for line in lines}) == (0, {"wrong_type"})
    assert "this is an OTLP traces request" in said
    assert "--signal" in said
    _, (totals,), said = decode("--signal", "logs", "--summary", GOLDEN / "tgen.traces.jsonl.gz")
    assert totals["rejected"] == {"wrong_type": totals["messages"]}
    assert "--signal" in said


def test_an_encoding_that_the_signal_does_not_have(capsys):
    assert main(["decode", "--signal", "logs", "--encoding", "flat", "x"]) == exit_codes.CONFIG
    assert "--signal logs has no encoding flat; it has otlp_proto, otlp_json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--signal logs", "name either files or a --topic"),
        ("--signal logs --topic t file", "name either files or a --topic"),
        ("--signal logs --max 3 file", "--max goes with --topic"),
        ("--signal spans file", "invalid choice: 'spans'"),
        ("file", "arguments are required: --signal"),
        ("--signal traces --threshold-ms -1 file", "'-1' is not a number of milliseconds"),
    ],
)
def test_wrong_usage(capsys, line, said):
    with pytest.raises(SystemExit) as ended:
        main(["decode", *line.split()])
    assert ended.value.code == exit_codes.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.kafka
def test_messages_of_a_topic(qma: Qma):
    qma.create()
    events = [{"service": f"s{i}", "time": "2026-01-02T03:04:05Z"} for i in range(5)]
    sent = qma.send(qma.source, "".join(json.dumps(event) + "\n" for event in events))
    assert sent.returncode == 0, sent.stderr
    code, out, err = qma("decode", "--signal", "events", "--topic", qma.source)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert sorted(row["service"] for row in rows) == [f"unknown/-/s{i}" for i in range(5)]
    assert all(row["at"].startswith(f"{qma.source}/") for row in rows)
    _, out, _ = qma("decode", "--signal", "events", "--topic", qma.source, "--max", "2", "--summary")
    assert json.loads(out)["messages"] == 2
    code, _, err = qma("decode", "--signal", "events", "--topic", "no.such.topic")
    assert (code, "no topic no.such.topic" in err) == (exit_codes.CONFIG, True)


KEYS = {
    "none": None,
    "partition_traces_by_id": b"0af7651916cd43dd8448eb211c80319c",
    "partition_traces_by_id, no trace id": b"",
    "partition_…_by_resource_attributes": bytes(range(0xF0, 0x100)),
    "message_key_from_metadata_key": b"tenant-1",
}
"""What a Collector's Kafka exporter makes keys of."""


async def send_as(qma: Qma, codec: str | None, values: Sequence[bytes]) -> None:
    """Sends the values once with each kind of key, and with headers as a Collector repeats them."""
    producer = AIOKafkaProducer(bootstrap_servers=qma.broker, compression_type=codec)
    await producer.start()
    try:
        for key in KEYS.values():
            for value in values:
                await producer.send(qma.source, value, key=key, headers=[("x-tenant", b"a"), ("x-tenant", b"\xff")])
        await producer.flush()
    finally:
        await producer.stop()


@pytest.mark.kafka
def test_what_a_collector_wrote_is_read_alike_whatever_the_encoding_key_and_codec(qma: Qma, decode, tmp_path: Path):
    qma.create()
    lines: list[str] = []
    for name in ("traces", "otlp_json.traces"):
        with gzip.open(GOLDEN / f"edge.{name}.jsonl.gz", "rt") as file:
            lines += sorted(file, key=len)[:2]
    values = [base64.b64decode(json.loads(line)["value"]) for line in lines]
    (tmp_path / "some.jsonl").write_text("".join(lines))
    _, (once,), _ = decode("--signal", "traces", "--summary", tmp_path / "some.jsonl")
    codecs = (None, "gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        asyncio.run(send_as(qma, codec, values))
    code, out, err = qma("decode", "--signal", "traces", "--topic", qma.source, "--summary")
    assert code == 0, err
    found, times = json.loads(out), len(codecs) * len(KEYS)
    assert (found["messages"], found["rows"]) == (once["messages"] * times, once["rows"] * times)
    assert found["rejected"] == {reason: items * times for reason, items in once["rejected"].items()}
    services = by_name(found["by_service"], "service", "version")
    for service, expected in by_name(once["by_service"], "service", "version").items():
        for total in ("rows", "duration_ns_sum", "over_threshold", "weight_sum"):
            assert services[service][total] == expected[total] * times


async def send_batch(qma: Qma, values: Sequence[bytes]) -> None:
    """Appends the values to the first partition of the source, as one batch."""
    producer = AIOKafkaProducer(
        bootstrap_servers=qma.broker, compression_type="zstd", max_batch_size=64 << 20, max_request_size=64 << 20
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            assert batch.append(key=None, value=value, timestamp=1_790_000_000_000) is not None
        await (await producer.send_batch(batch, qma.source, partition=0))
    finally:
        await producer.stop()


@pytest.mark.kafka
def test_a_batch_that_inflates_beyond_the_limit_is_stepped_over(qma: Qma):
    qma.create()
    before, behind = (
        [json.dumps({"service": name, "time": "2026-01-02T03:04:05Z"}).encode()] * 2 for name in ("a", "b")
    )
    for values in (before, [bytes(12 << 20)] * 3, behind):
        asyncio.run(send_batch(qma, values))
    code, out, err = qma("decode", "--signal", "events", "--topic", qma.source)
    assert code == 0, err
    shown = [json.loads(line) for line in out.splitlines()]
    assert [line.get("service") or line["refused"] for line in shown] == [
        *["unknown/-/a"] * 2,
        "too_large",
        *["unknown/-/b"] * 2,
    ]
    assert (shown[2]["at"], shown[2]["items"]) == (f"{qma.source}/0@2", 3)
    assert f"{qma.source}/0@2: rejected as too_large: batch of 3 messages at offsets 2 to 4" in err
    code, out, err = qma("decode", "--signal", "events", "--topic", qma.source, "--summary")
    totals = json.loads(out)
    assert (code, totals["messages"], totals["rows"], totals["rejected"]) == (0, 7, 4, {"too_large": 3})
    assert "rejected as too_large" in err
    _, out, _ = qma("decode", "--signal", "events", "--topic", qma.source, "--summary", "--max", "3")
    assert json.loads(out)["messages"] == 5, "a batch that cannot be read is not cut"
