"""`qma doctor`: what it sees in a Collector's bytes, what it says about it, and which line it gives."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from stream.cli import doctor
from stream.cli.findings import Finding, Level, TopicReport, findings
from stream.cli.sampled import Observed, TopicSample, key_use
from stream.cli.standing import Checkpoints, standing_findings, standing_of
from stream.config.problems import printable
from stream.config.sources import own_indicators
from stream.core.columns import RejectReason, Signal
from stream.core.engine import Balance
from stream.core.engine.clocks import Clocks
from stream.core.otlp import Limits
from stream.core.slo.spec import Bundle, Objective, SliSignal, Source
from stream.core.units import SECOND_NS
from stream.kafka import clients, topics
from stream.kafka.batches import RefusedBatch
from stream.kafka.local import LocalKafka
from stream.kafka.newest import Newest
from tests.cli.conftest import Qma

GOLDEN = Path(__file__).parents[1] / "golden" / "otlp"
NOW_NS = 1_790_000_000 * SECOND_NS
CHECKOUT = "prod/shop/checkout"


def golden(name: str) -> list[Observed]:
    """Returns messages of a real Collector."""
    with gzip.open(GOLDEN / f"app_default.{name}.jsonl.gz", "rt") as file:
        return [Observed(key=None, value=base64.b64decode(json.loads(line)["value"]), time_ns=NOW_NS) for line in file]


def trace(kind: int = 2, *, spans: int = 10, state: str = "ot=th:8", **resource: str) -> Observed:
    """Returns a message of spans, by default of requests that are sampled at one half."""
    names = {"service.name": "checkout", "service.namespace": "shop", "deployment.environment.name": "prod"}
    names |= {"service.version": "1.4.2"} | {key.replace("_", "."): value for key, value in resource.items()}
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in names.items():
        if value:
            resource_spans.resource.attributes.add(key=key).value.string_value = value
    scope = resource_spans.scope_spans.add()
    for at in range(spans):
        scope.spans.add(
            trace_id=bytes([at + 1]) * 9 + b"\xff" * 7,  # random enough to be sampled at any rate
            kind=kind,
            trace_state=state,
            start_time_unix_nano=NOW_NS,
            end_time_unix_nano=NOW_NS + 1000 + at,
        )
    return Observed(key=None, value=request.SerializeToString(), time_ns=NOW_NS)


def event(**fields: Any) -> Observed:
    body = {"service": "checkout", "environment": "prod", "namespace": "shop", "version": "1", "time": NOW_NS}
    return Observed(key=b"k", value=orjson.dumps(body | fields), time_ns=NOW_NS)


def sampled(messages: Sequence[Observed], topic: str = "otlp_spans", signal: Signal | None = None) -> TopicSample:
    sample = TopicSample(topic=topic, signal=signal)
    sample.add(messages)
    return sample


def report(messages: Sequence[Observed], topic: str = "otlp_spans", **options: Any) -> TopicReport:
    newest = options.pop("newest", None) or Newest(partitions=2, held=9, batches=Counter(zstd=3))
    return TopicReport(sample=sampled(messages, topic), newest=newest, **options)


def bundle(
    *objectives: Objective, sources: Sequence[Source] = (Source(topic="otlp_spans", encoding="otlp_proto"),)
) -> Bundle:
    return Bundle(pipeline="p", generation="1", partitions=2, sources=tuple(sources), objectives=objectives)


def objective(**fields: Any) -> Objective:
    return Objective(
        **{"service": CHECKOUT, "name": "availability", "target": "0.99", "window_minutes": 43_200, **fields}
    )


def only(found: Sequence[Finding], word: str) -> Finding:
    """Returns the one finding that says this word."""
    (finding,) = (finding for finding in found if word in finding.says)
    return finding


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("traces", ("traces", "otlp_proto")),
        ("logs", ("logs", "otlp_proto")),
        ("otlp_json.logs", ("logs", "otlp_json")),
        ("otlp_json.metrics", ("metrics", "otlp_json")),
    ],
)
def test_what_a_collector_sends_is_told_from_its_bytes(name: str, form: tuple[str, str]) -> None:
    sample = sampled(golden(name))
    assert set(sample.forms) == {form}
    assert not sample.rejected
    assert {"test/mini/mini-front", "test/mini/unknown_service:python"} <= set(sample.services)


def test_protobuf_metrics_are_told_from_their_bytes_too() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="http.server.request.duration")
    metric.histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    metric.histogram.data_points.add(time_unix_nano=NOW_NS, count=3, bucket_counts=[3])
    sample = sampled([Observed(key=None, value=request.SerializeToString(), time_ns=0)], signal=Signal.SPAN)
    assert set(sample.forms) == {("metrics", "otlp_proto")}
    (found,) = sample.metrics.items()
    assert (found[0], found[1].type, found[1].temporality) == ("http.server.request.duration", "histogram", "delta")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b'{"resourceSpans":[]}', ("traces", "otlp_json")),
        (b' {"resourceMetrics":[]}', ("metrics", "otlp_json")),
        (b'{"resourceLogs":[]}', ("logs", "otlp_json")),
        (event().value, ("events", "flat")),
        (ExportTraceServiceRequest().SerializeToString(), None),
    ],
    ids=["spans", "metrics", "logs", "flat", "empty"],
)
def test_json_is_told_by_its_first_key(value: bytes, form: tuple[str, str] | None) -> None:
    sample = sampled([Observed(key=None, value=value, time_ns=0)])
    assert list(sample.forms) == ([form] if form else [])


def test_what_is_neither_json_nor_protobuf_is_refused_with_a_sentence() -> None:
    sample = sampled([Observed(key=None, value=b'{"service": ', time_ns=0), event()])
    assert sample.forms == {("events", "flat"): 1}
    assert sample.rejected["malformed"].details == ["it begins like JSON and is none"]
    assert sample.unreadable == 1


def test_what_is_no_event_on_a_topic_of_events_is_no_other_signal() -> None:
    junk = [Observed(key=None, value=value, time_ns=0) for value in (b"[1]", b"nonsense", b'{"service": ')]
    sample = sampled([event(), *junk], "telemetry.events", Signal.EVENT)
    assert sample.forms == {("events", "flat"): 4}
    assert {reason: refusals.items for reason, refusals in sample.rejected.items()} == {"wrong_type": 1, "malformed": 2}
    # But what makes sense as spans is told as such.
    assert ("traces", "otlp_proto") in sampled([event(), trace()], "telemetry.events", Signal.EVENT).forms


def test_a_reason_names_what_it_stands_for() -> None:
    sample = sampled([event(code="200"), event(count="3"), event(count="3"), event(kind=7), event(time=True)])
    assert sample.rejected["wrong_type"].items == 5
    assert [detail.split(";")[0] for detail in sample.rejected["wrong_type"].details] == [
        'field `code` is "200"',
        'field `count` is "3"',
        "field `kind` is 7",
    ]
    says = only(findings([TopicReport(sample=sample, newest=Newest(partitions=1))], None), "wrong_type").says
    assert "; or: field `count`" in says


def test_equal_events_are_different_ones_unless_they_have_an_id() -> None:
    assert sampled([event(), event(), event(id=""), event(id="")]).repeated == 0
    same = [event(id="a"), event(id="a", duration_ms=3), event(id="b"), event(id="a", service="other")]
    found = only(findings([report(same, "telemetry.events")], None), "retries")
    assert found.says.startswith("1 message with the service and the `id` of an earlier one")


def test_items_from_the_future_and_from_long_ago_are_told_before_a_pipeline_runs() -> None:
    minute_ns, hour_ns = 60 * SECOND_NS, 3600 * SECOND_NS
    at = {"a": 4 * minute_ns, "b": 6 * minute_ns, "c": -5 * hour_ns, "d": -7 * hour_ns}
    messages = [event(service=name, time=NOW_NS + offset_ns) for name, offset_ns in at.items()]
    # A clock that is ahead is ahead on the message, too.
    messages.append(replace(event(service="e", time=NOW_NS + hour_ns), time_ns=NOW_NS + hour_ns))
    sample = TopicSample(topic="telemetry.events", now_ns=NOW_NS)
    sample.add(messages)
    found = findings([TopicReport(sample=sample, newest=Newest(partitions=1))], None)
    assert only(found, "future").says == "2 of 5 items end more than five minutes after now: refused as future"
    assert only(found, "late").says.startswith("1 of 5 items end more than six hours before their message was written")
    assert {only(found, word).level for word in ("future", "late")} == {Level.CHANGE}


def test_texts_that_are_no_utf8_are_told() -> None:
    damaged = replace(trace(), value=(trace().value or b"").replace(b"checkout", b"chec\xffout"))
    found = only(findings([report([trace(), damaged])], None), "UTF-8")
    assert found.says.startswith("10 items with a text that is no UTF-8: counted")
    assert found.level is Level.ADVICE


def test_a_guess_without_evidence_keeps_what_the_topic_promises() -> None:
    message = Observed(
        key=None, value=ExportLogsServiceRequest(resource_logs=[ResourceLogs()]).SerializeToString(), time_ns=0
    )
    assert set(sampled([message], signal=Signal.LOG).forms) == {("logs", "otlp_proto")}
    assert set(sampled([message], signal=Signal.METRIC).forms) == {("metrics", "otlp_proto")}


@pytest.mark.parametrize(
    ("key", "use"),
    [
        (None, "none"),
        (b"", "empty"),
        (b"0af7651916cd43dd8448eb211c80319c", "trace id"),
        (bytes(range(16)), "16 bytes"),
        (b"checkout", "other"),
    ],
)
def test_what_a_key_is_used_for(key: bytes | None, use: str) -> None:
    assert key_use(key) == use


def test_a_sample_counts_what_counts() -> None:
    messages = [trace(), trace(), trace(kind=3, spans=4, state=""), Observed(key=None, value=None, time_ns=NOW_NS + 5)]
    sample = sampled(messages)
    service = sample.services[CHECKOUT]
    assert (sample.messages, sample.items, sample.repeated, sample.tombstones) == (4, 24, 1, 1)
    assert (service.items, service.kinds) == (24, {"SERVER": 20, "CLIENT": 4})
    assert (service.unknown_sampling, service.weight) == (4, 44.0)
    assert service.versions == {"1.4.2": 24}
    assert sample.newest_ns == NOW_NS + 5


def test_a_healthy_pipeline_needs_nothing() -> None:
    source = Source(topic="otlp_spans", encoding="otlp_proto")
    assert findings([report([trace()], source=source)], bundle(objective())) == []


def test_another_encoding_than_configured_names_the_line() -> None:
    source = Source(topic="otlp_spans", encoding="otlp_json")
    found = findings([report([trace()], source=source)], bundle(sources=[source]))
    wrong = only(found, "configured")
    assert wrong.level is Level.CHANGE
    assert wrong.says == "it is configured to carry traces as otlp_json; what arrives is traces as otlp_proto"
    assert wrong.fix[0].startswith("qma apply FILE… --source otlp_spans=otlp_proto ")


def test_a_topic_of_two_signals_is_one_too_many() -> None:
    found = findings([report([trace(), event()])], None)
    assert "several signals share the topic" in only(found, "several").says


def test_a_missing_and_an_empty_topic_say_how_to_fill_them() -> None:
    missing = TopicReport(sample=TopicSample(topic="otlp_logs", signal=Signal.LOG), newest=Newest())
    empty = TopicReport(sample=TopicSample(topic="otlp_spans"), newest=Newest(partitions=1))
    found = findings([missing, empty], None)
    assert only(found, "no such topic").fix[0] == "create it: qma topics apply --source otlp_logs"
    assert "exporters.kafka.logs.topic: otlp_logs" in only(found, "no such topic").fix[1]
    assert "exporters.kafka.traces.topic: otlp_spans" in only(found, "holds no message").fix[0]
    assert all(finding.level is Level.CHANGE for finding in found)


def test_services_without_name_environment_or_version_are_named() -> None:
    messages = [trace(service_name=""), trace(deployment_environment_name=""), trace(service_version="")]
    found = findings([report(messages)], None)
    assert only(found, "service.name").about == "prod/shop/unknown_service"
    assert only(found, "service.name").fix == ("service: OTEL_RESOURCE_ATTRIBUTES=service.name=checkout",)
    assert only(found, "environment").about == "unknown/shop/checkout"
    assert "processors.resource.attributes: [{key: deployment.environment.name" in only(found, "environment").fix[1]
    assert only(found, "service.version").about == CHECKOUT


def test_flat_events_are_told_their_own_field() -> None:
    found = findings([report([event(environment=None)], "telemetry.events")], None)
    assert only(found, "environment").fix == ('flat events: "environment": "prod"',)


def test_a_service_that_only_calls_others_has_no_requests() -> None:
    found = only(findings([report([trace(kind=3)])], None), "counts as a request")
    assert found.about == CHECKOUT
    assert "those have kind SERVER or CONSUMER, it sends CLIENT 10" in found.says
    assert found.fix[1].endswith("kinds: [client]")


def test_a_service_of_spans_and_flat_events_may_count_its_requests_twice() -> None:
    reports = [report([trace()]), report([event(), event(service="other")], "telemetry.events")]
    found = only(findings(reports, None), "sends spans and flat events")
    assert (found.about, found.level) == (CHECKOUT, Level.ADVICE)


def test_the_kinds_of_the_objectives_are_what_counts() -> None:
    source = Source(topic="otlp_spans", encoding="otlp_proto")
    assert findings([report([trace(kind=3)], source=source)], bundle(objective(kinds=(3,)))) == []


def test_unknown_sampling_gives_the_annotation_and_what_to_set_in_the_collector() -> None:
    found = only(findings([report([trace(state=""), trace()])], None), "threshold")
    assert found.says.startswith("50% of 20 spans carry no sampling threshold")
    assert "annotations: {qma/sampling: none}" in found.fix[0]
    assert "processors.probabilistic_sampler: {mode: proportional" in found.fix[1]


def test_unknown_sampling_is_fine_where_every_objective_declares_that_nothing_samples() -> None:
    source = Source(topic="otlp_spans", encoding="otlp_proto")
    reports = [report([trace(state="")], source=source)]
    assert findings(reports, bundle(objective(sampling_none=True))) == []
    both = bundle(objective(sampling_none=True), objective(name="latency"))
    assert only(findings(reports, both), "threshold").level is Level.CHANGE


def test_an_objective_on_something_that_does_not_arrive_names_what_does() -> None:
    source = Source(topic="otlp_spans", encoding="otlp_proto")
    other = bundle(objective(), objective(service="prod/shop/chekout"), objective(signal=SliSignal.LOGS, event="paid"))
    (found,) = findings([report([trace()], source=source)], other)
    assert found.about == "prod/shop/chekout/availability"
    assert found.fix[0].startswith("SLO file: it is called `prod/shop/checkout`")


def test_refusals_are_listed_by_reason_with_their_sentence() -> None:
    sample = TopicSample(topic="otlp_spans", limits=Limits(items=5))
    sample.add([trace(), trace(spans=3)])
    found = findings([TopicReport(sample=sample, newest=Newest(partitions=1))], None)
    wrong = only(found, "too_many_items")
    assert "--set limits.items=N" in wrong.fix[0]
    assert wrong.level is Level.CHANGE


def test_a_refused_batch_names_the_setting() -> None:
    batch = RefusedBatch(
        reason=RejectReason.TOO_LARGE,
        first_offset=3,
        last_offset=9,
        records=7,
        time_ns=None,
        codec="zstd",
        digest=bytes(32),
        detail="batch of 7 messages",
    )
    newest = Newest(partitions=1, batches=Counter(zstd=2), refused=[batch, batch])
    found = only(findings([report([trace()], newest=newest)], None), "record batch")
    assert found.says == "a record batch is refused as too_large: batch of 7 messages; 2 such batches"
    assert "max_message_bytes" in found.fix[0]


def test_advice_alone_is_no_reason_to_fail() -> None:
    newest = Newest(partitions=1, batches=Counter(none=3, zstd=1))
    source = Source(topic="otlp_spans", encoding="otlp_proto")
    found = findings([report([trace(), trace()], newest=newest, source=source)], bundle())
    assert [finding.level for finding in found] == [Level.ADVICE, Level.ADVICE]
    assert only(found, "not compressed").fix == ("Collector: exporters.kafka.producer.compression: zstd",)
    assert only(found, "retries").says.startswith("1 message with the bytes of an earlier one")
    assert doctor.exit_code(found) == 0


def test_one_message_per_trace_is_advised_against() -> None:
    messages = [replace(trace(spans=2, service_version=f"{at}"), key=f"{at:032x}".encode()) for at in range(100)]
    found = only(findings([report(messages)], None), "one message per trace")
    assert found.fix == ("Collector: exporters.kafka.partition_traces_by_id: false",)


def test_what_is_not_read_yet_gets_the_whole_line() -> None:
    reports = [report([trace()]), report([event()], "telemetry.events")]
    found = only(findings(reports, None), "nothing is configured")
    assert found.fix == ("qma apply FILE… --source otlp_spans=otlp_proto --source telemetry.events=flat",)
    configured = Source(topic="otlp_spans", encoding="otlp_proto")
    found = only(findings([replace(reports[0], source=configured), reports[1]], bundle()), "does not read it")
    assert found.fix == ("qma apply FILE… --source otlp_spans=otlp_proto --source telemetry.events=flat",)


def clocks(now_s: float, **until_s: float) -> Clocks:
    found = Clocks()
    found.now_ns = NOW_NS + int(now_s * SECOND_NS)
    found.topic_partitions = {"otlp_spans": 2}
    found.until_ns = {("otlp_spans", int(at[1:])): NOW_NS + int(s * SECOND_NS) for at, s in until_s.items()}
    found.move_frontier(["otlp_spans"])
    return found


def account(**fields: Any) -> Balance:
    values = {name: 0 for name in Balance.__dataclass_fields__ if name not in ("topic", "topic_id", "rejected")}
    return Balance(**{**values, "topic": "otlp_spans", "topic_id": "x", "rejected": {}, **fields})


def test_the_source_that_holds_the_frontier_back_comes_first() -> None:
    seen = [clocks(600, p0=599, p1=60), clocks(590, p0=600, p1=90)]
    checkpoints = Checkpoints(bundle=bundle(), clocks=seen, partitions=2, unread=(("otlp_spans", 1, 70),))
    standing = standing_of(checkpoints)
    assert standing.frontier_ns == NOW_NS + 60 * SECOND_NS
    assert [(s.topic, s.partition, s.lag_s, s.unread) for s in standing.sources] == [
        ("otlp_spans", 1, 540.0, 70),
        ("otlp_spans", 0, 1.0, 0),
    ]
    (found,) = standing_findings(checkpoints, standing, wall_ns=NOW_NS + 601 * SECOND_NS)
    assert found.says == "otlp_spans/1 holds the frontier back: it is read up to 540 s before now"
    assert "qma worker --ingest N" in found.fix


def test_our_own_indicators_hold_nothing_back_and_are_no_source_to_name() -> None:
    sources = (Source(topic="otlp_spans", encoding="otlp_proto"), own_indicators("qma."))
    made = bundle(sources=sources)
    checkpoints = Checkpoints(
        bundle=made,
        clocks=[clocks(600, p0=599, p1=60)],
        partitions=1,
        balances=[account(topic="qma.sli", received=5, counted=5)],
    )
    standing = standing_of(checkpoints)
    assert {source.topic for source in standing.sources} == {"otlp_spans"}
    (found,) = standing_findings(checkpoints, standing, wall_ns=NOW_NS + 601 * SECOND_NS)
    assert "otlp_spans/1 holds the frontier back" in found.says
    assert not any("sli" in line for line in found.fix)
    reports = [report([trace()], source=sources[0]), report([event()], "telemetry.events")]
    line = only(findings(reports, made), "does not read it").fix
    assert line == ("qma apply FILE… --source otlp_spans=otlp_proto --source telemetry.events=flat",)


def test_sampling_matters_to_what_is_certified_alone() -> None:
    calls = objective(name="calls", certified=False)
    spans = [report([trace(state="")])]
    unknown = "nothing is certified"
    assert not [f for f in findings(spans, bundle(objective(sampling_none=True), calls)) if unknown in f.says]
    assert only(findings(spans, bundle(objective(), calls)), unknown) is not None


def test_a_source_that_was_never_heard_of_has_no_frontier() -> None:
    checkpoints = Checkpoints(bundle=bundle(), clocks=[clocks(1, p0=1)], partitions=1)
    standing = standing_of(checkpoints)
    assert standing.frontier_ns is None
    assert standing.sources[0].until_ns is None
    (found,) = standing_findings(checkpoints, standing, wall_ns=NOW_NS)
    assert found.says == "otlp_spans/1 holds the frontier back: nothing was ever heard of it"
    shown = "\n".join(doctor.lines([], standing, [found], wall_ns=NOW_NS))
    assert "sources      otlp_spans/1   never heard of; 0 not read" in shown


def test_a_pipeline_at_rest_says_so() -> None:
    nothing = Checkpoints(bundle=bundle(), partitions=2)
    assert standing_findings(nothing, standing_of(nothing), wall_ns=NOW_NS)[0].fix == ("qma worker",)
    unset = Checkpoints(bundle=None)
    assert standing_findings(unset, standing_of(unset), wall_ns=NOW_NS)[0].fix == ("qma apply FILE…",)
    old = Checkpoints(bundle=bundle(), clocks=[clocks(5, p0=5, p1=5)], partitions=1)
    (found,) = standing_findings(old, standing_of(old), wall_ns=NOW_NS + 305 * SECOND_NS)
    assert "nothing newer than 300 s ago" in found.says
    simulated = replace(old, log_is_timed_by_broker=False)
    assert standing_findings(simulated, standing_of(simulated), wall_ns=NOW_NS + 305 * SECOND_NS) == []


def test_what_the_pipeline_refused_is_advice_by_reason() -> None:
    entry = account(received=10, counted=7, rejected={"future": 2, "malformed": 1}, lost_offsets=4)
    checkpoints = Checkpoints(bundle=bundle(), clocks=[clocks(5, p0=5, p1=5)], partitions=1, balances=[entry])
    standing = standing_of(checkpoints)
    assert standing.rejected == {"future": 2, "malformed": 1}
    found = standing_findings(checkpoints, standing, wall_ns=NOW_NS)
    assert [finding.says for finding in found] == [
        "2 items refused as future so far",
        "1 item refused as malformed so far",
        "4 offsets expired before being read",
    ]
    assert found[0].fix[0].startswith("set the producer's clock")
    assert doctor.exit_code(found) == 0


def test_names_that_a_terminal_would_act_on_are_shown_escaped() -> None:
    lines = list(doctor.lines([report([trace(service_name="a\x1b[2Jb")])], None, [], wall_ns=NOW_NS))
    shown = [printable(line) for line in lines]
    assert any("a\\x1b[2Jb" in line for line in shown)
    assert not any("\x1b" in line for line in shown)


def test_the_report_as_json_holds_what_the_text_says() -> None:
    reports = [report([trace(), trace(kind=3, state="")])]
    found = findings(reports, None)
    body = json.loads(orjson.dumps(doctor.as_object(reports, None, found)))
    (topic,) = body["topics"]
    assert topic["encodings"] == [{"signal": "traces", "encoding": "otlp_proto", "messages": 2}]
    assert topic["services"][CHECKOUT]["kinds"] == {"SERVER": 10, "CLIENT": 10}
    assert topic["codecs"] == {"zstd": 3}
    assert body["needs_change"] is True
    assert [finding["level"] for finding in body["findings"]] == ["change", "advice"]


@pytest.mark.kafka
def test_a_newcomers_first_look_at_a_topic(qma: Qma, kafka: LocalKafka, tmp_path: Path) -> None:
    """No pipeline yet, then one that is configured and never ran; nothing is written to the topics."""
    topic = f"{qma.prefix}otlp_spans"
    spec = topics.TopicSpec(name=topic, partitions=2, replication=1, config={"compression.type": "lz4"}, ours=False)

    async def send() -> None:
        await topics.apply(kafka.bootstrap, [spec])
        producer = await clients.ingest_producer(kafka.bootstrap)
        try:
            for message in golden("traces"):
                await (await producer.send(topic, message.value, partition=1))
        finally:
            await clients.stop(producer)

    asyncio.run(send())
    code, out, err = qma("doctor", topic, "--json")
    assert code == 1, out + err
    body = json.loads(out)
    assert body["topics"][0]["codecs"] == {"lz4": len(golden("traces"))}
    assert body["topics"][0]["keys"] == {"none": len(golden("traces"))}
    assert body["topics"][0]["looked_at"]["items"] == 846
    assert any("qma/sampling: none" in line for finding in body["findings"] for line in finding["fix"])

    qma.create()
    slo = tmp_path / "slo.yaml"
    slo.write_text((Path(__file__).parents[2] / "stream/demo/slo/checkout.yaml").read_text())
    code, out, err = qma("apply", str(slo), "--source", f"{topic}=otlp_json")
    assert code == 0, out + err
    code, out, err = qma("doctor", "--pipeline", "--messages", "1")
    assert code == 1, out + err
    assert "what arrives is traces as otlp_proto" in out
    assert f"qma apply FILE… --source {topic}=otlp_proto" in out
    assert "there is no checkpoint" in out
    assert "counts the service `production/shop/checkout`" in out
    code, _, err = qma("doctor", f"{qma.prefix}nothing")
    assert code == 1
