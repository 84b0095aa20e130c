"""The bytes of a scrape: right in every format, rendered once for each evaluation, compressed once."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from stream.core.engine import Engine
from stream.core.service_key import partition_of
from stream.core.units import MINUTE_NS
from stream.metrics.collectors import StateCollector
from stream.metrics.exposition import Exposition, Gauge, Piece
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run, steady
from tests.core.engine.scenarios import BAD, rich_log
from tests.metrics.plain import PlainCollector
from tests.metrics.shown import OPENMETRICS, expose, scrape, series, status, value

Parse = Callable[[str], Iterable[Metric]]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@lru_cache
def rich() -> Engine:
    """Returns the fold of the rich log while alerts fire."""
    return run(rich_log()[:91])[0]


def samples(text: bytes, read: Parse) -> Samples:
    found = [sample for family in read(text.decode()) for sample in family.samples]
    values = {(sample.name, tuple(sorted(sample.labels.items()))): float(sample.value) for sample in found}
    assert len(values) == len(found), "no series is shown twice"
    return values


def rendered(shown: Exposition) -> list[Piece]:
    """Returns all pieces but the last, which prometheus-client writes at each scrape."""
    return list(shown.pieces[:-1])


class TwoPartitions:
    """A worker with two partitions, each with one objective; a minute of each can be closed."""

    def __init__(self) -> None:
        self.writers = []
        self.engines = []
        for partition, service in enumerate(("prod/shop/checkout", "prod/shop/basket")):
            assert partition_of(service, 2) == partition
            writer = LogWriter(replace(bundle(objective(f"slo-{partition}", service=service)), partitions=2))
            minute_by_minute(writer, [[replace(e, service=service) for e in batch] for batch in steady(3, 10)])
            self.writers.append(writer)
            self.engines.append(run(writer.log, Engine(partition))[0])
        self.worker = status(*self.engines)
        self.collector = StateCollector(self.worker, sloth=True)

    def read_until(self, partition: int, minute: int, *, seconds: int = 0) -> None:
        writer, engine = self.writers[partition], self.engines[partition]
        writer.record(until_ns=T0_NS + minute * MINUTE_NS + seconds * 1_000_000_000)
        run(writer.log, engine)


@pytest.mark.parametrize(
    ("accept", "read", "generate"),
    [("", parse, generate_latest), (OPENMETRICS, parse_openmetrics, generate_openmetrics)],
    ids=["text", "openmetrics"],
)
def test_it_says_what_prometheus_client_would_say(accept: str, read: Parse, generate: Callable[..., bytes]):
    registry = CollectorRegistry()
    registry.register(PlainCollector([rich()], sloth=True))
    ours = samples(expose(StateCollector(status(rich()), sloth=True), accept).plain(), read)
    expected = samples(generate(registry, escaping="allow-utf-8"), read)  # or it would write `_` for `:`

    assert len(expected) > 200
    names = {name for name, _ in expected}
    assert {key: number for key, number in ours.items() if key[0] in names} == pytest.approx(expected, rel=1e-12)


def test_both_formats_hold_the_same_lines_but_for_counters_and_the_end():
    collector = StateCollector(status(rich()), sloth=True)
    text, openmetrics = (expose(collector, accept).plain().decode().splitlines() for accept in ("", OPENMETRICS))

    assert openmetrics[-1] == "# EOF"
    assert openmetrics.count("# EOF") == 1
    assert "# EOF" not in text
    different = set(text) ^ set(openmetrics) - {"# EOF"}
    assert all("qma_items_" in line or "qma_checkpoint_age" in line or line == "# EOF" for line in different)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", "text/plain; version=1.0.0"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        # Source: Prometheus 2.42 and 3.0, scrape/scrape.go.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
def test_the_format_is_agreed_on(accept: str, content_type: str):
    assert expose(StateCollector(status(rich())), accept).content_type.startswith(content_type)


def test_names_are_never_escaped_whatever_is_asked_for():
    dots = expose(StateCollector(status(rich())), f"{OPENMETRICS};escaping=dots")

    assert "escaping=dots" not in dots.content_type
    names = {name for name, _ in samples(dots.plain(), parse_openmetrics)}
    assert {"qma_sli_ratio", "qma_log_lag_records"} <= names


def test_there_is_no_created_series():
    assert b"_created" not in expose(StateCollector(status(rich()), sloth=True), OPENMETRICS).plain()


def test_every_family_is_named_once_though_several_partitions_have_it():
    partitions = TwoPartitions()
    lines = expose(partitions.collector).plain().decode().splitlines()

    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    families = scrape(partitions.collector)
    for objective_name in ("slo-0", "slo-1"):
        assert value(families["qma_sli_ratio"], objective=objective_name, window="1m") == 1
        assert value(families["slo:objective:ratio"], sloth_slo=objective_name) == 0.99


@pytest.mark.parametrize(("accept", "read"), [("", parse), (OPENMETRICS, parse_openmetrics)])
def test_labels_are_escaped(accept: str, read: Parse):
    service, name = 'prod/shop/a"b\\n\\', 'quote"\\ new\nline, ünï{}=€'
    writer = LogWriter(bundle(objective(name, service=service)))
    minute_by_minute(writer, [[Event(T0_NS, service=service, version='v"1\n')], [], []])
    collector = StateCollector(status(run(writer.log)[0]), sloth=True)

    shown = {(name, dict(labels).get("sloth_id")) for name, labels in samples(expose(collector, accept).plain(), read)}
    families = {family.name: family for family in read(expose(collector, accept).plain().decode())}

    assert ("slo:objective:ratio", f"{service}-{name}") in shown
    assert value(families["qma_objective_target_ratio"], service=service, objective=name) == 0.99
    assert series(families["qma_certificate_state"], service=service, version='v"1\n')


def test_values_read_back_exactly():
    values = [0.1, 1 / 3, 1e-7, 5e-324, 1.7976931348623157e308, -0.25, 0.0, 1e16, 123456789.125, 2, 2**53]
    piece = Gauge("a_ratio", "").render((f'i="{i}"', number) for i, number in enumerate(values))

    assert list(samples(piece.text, parse).values()) == values


def test_a_value_that_is_not_finite_is_never_shown():
    with pytest.raises(AssertionError, match="a_ratio has a value that is not finite"):
        Gauge("a_ratio", "").render([("", float("nan"))])


def test_a_compressed_scrape_is_one_gzip_member_with_the_same_text():
    shown = expose(StateCollector(status(rich()), sloth=True))
    body = shown.gzipped()

    assert gzip.decompress(body) == shown.plain()
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)  # stops after one member, as some clients do
    assert reader.decompress(body) == shown.plain()
    assert reader.eof
    assert not reader.unused_data
    assert len(body) < len(shown.plain()) / 3


def test_a_worker_without_partitions_can_be_compressed():
    shown = expose(StateCollector(status(), sloth=True))

    assert gzip.decompress(shown.gzipped()) == shown.plain()


def test_a_scrape_between_evaluations_renders_and_compresses_nothing_anew():
    partitions = TwoPartitions()
    first = rendered(expose(partitions.collector))
    deflated = [piece.deflated for piece in first]
    minutes = [engine.state.next_minute for engine in partitions.engines]
    partitions.read_until(0, 3, seconds=20)  # a record that closes no minute

    again = rendered(expose(partitions.collector, OPENMETRICS))

    assert [engine.state.next_minute for engine in partitions.engines] == minutes
    assert len(first) > 40
    assert [id(piece) for piece in again] == [id(piece) for piece in first]
    assert [id(piece.deflated) for piece in again] == [id(deflated_before) for deflated_before in deflated]


def test_only_the_partition_that_closed_a_minute_is_rendered_anew():
    partitions = TwoPartitions()
    first = {id(piece): piece for piece in rendered(expose(partitions.collector))}
    partitions.read_until(1, 5)

    new = b"".join(piece.text for piece in rendered(expose(partitions.collector)) if id(piece) not in first)

    assert b'objective="slo-1"' in new
    assert b'"slo-0"' not in new
    assert b"qma_objective_target_ratio" not in new, "a minute changes no target"
    assert value(scrape(partitions.collector)["qma_sli_events"], objective="slo-1", window="1m") == 0


def test_a_partition_that_comes_back_is_rendered_from_its_new_fold():
    partitions = TwoPartitions()
    assert value(scrape(partitions.collector)["qma_sli_events"], objective="slo-1", window="1m") == 10
    partitions.worker.forget(1)
    assert not series(scrape(partitions.collector)["slo:objective:ratio"], sloth_slo="slo-1")

    partitions.engines[1].checkpoint()
    fresh = Engine.restore(1, partitions.engines[1].snapshot())
    assert fresh.state.next_minute == partitions.engines[1].state.next_minute
    partitions.worker.engines[1] = fresh

    assert not series(scrape(partitions.collector)["qma_sli_events"], objective="slo-1"), "it has evaluated nothing yet"


def test_an_alert_that_begins_is_shown_at_the_next_scrape():
    log = rich_log()
    engine, _ = run(log[:60])
    collector = StateCollector(status(engine))
    page = {"service": BAD, "rule": "page-6h-30m"}
    assert value(scrape(collector)["qma_alert_firing"], **page) == 0

    run(log[:91], engine)

    assert value(scrape(collector)["qma_alert_firing"], **page) == 1


def test_a_certificate_that_expires_between_evaluations_is_shown_so():
    log = rich_log()
    engine, _ = run(log[:-1])
    collector = StateCollector(status(engine))
    before = scrape(collector)["qma_certificate_state"]
    minute = engine.state.next_minute
    run(log, engine)

    after = scrape(collector)["qma_certificate_state"]

    assert engine.state.next_minute == minute
    [issued] = [sample.labels for sample in series(before, state="issued", version="v1") if sample.value]
    assert value(after, **{**issued, "state": "issued"}) == 0
    assert value(after, **{**issued, "state": "expired"}) == 1


def test_a_configuration_without_an_objective_takes_its_series_along():
    writer = LogWriter(bundle(objective("stays"), objective("goes")))
    minute_by_minute(writer, steady(3, 10))
    engine, _ = run(writer.log)
    collector = StateCollector(status(engine), sloth=True)
    assert series(scrape(collector)["slo:objective:ratio"], sloth_slo="goes")

    writer.bundle, writer.config_version = bundle(objective("stays")), 1
    writer.record(until_ns=T0_NS + 3 * MINUTE_NS, configure=True)
    run(writer.log, engine)

    assert b"goes" not in expose(collector).plain()
    assert series(scrape(collector)["slo:objective:ratio"], sloth_slo="stays")
