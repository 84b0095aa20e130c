"""What a Collector lost, the whole way: from files and its own metrics to the bounds and the certificate of a service
in another partition, without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from stream.config.bundle import make_bundle
from stream.config.openslo import load_configuration
from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.events import CertificateEvent, Output, SliEvent
from stream.core.rendering import render
from stream.core.service_key import partition_of
from stream.core.slo.spec import Bundle, Settings, Source
from stream.core.units import MINUTE_NS, SECOND_NS, minute_of
from tests.config.reading import NOW_NS
from tests.core.engine.log_writer import T0_NS
from tests.ingest.test_indicators import Whole, published

EXAMPLE = Path(__file__).parents[2] / "schemas/config/examples/lost-spans.yaml"
CHECKOUT, COLLECTOR = "production/shop/checkout", "production/shop/otel-collector"
ACCEPTED, FAILED = "otelcol_receiver_accepted_spans", "otelcol_exporter_send_failed_spans"
FULL = "otelcol_exporter_enqueue_failed_spans"
T0 = minute_of(T0_NS)
MINUTES = 40


def bundle() -> Bundle:
    """Returns the example's, of which the two services are in different partitions."""
    configuration = load_configuration([EXAMPLE], now_ns=NOW_NS)
    sources = (
        Source(topic="events", encoding="flat"),
        Source(topic="otlp_metrics", encoding="otlp_json", signal="metrics"),
    )
    return make_bundle(
        configuration.objectives,
        previous=None,
        pipeline="test",
        generation="1",
        partitions=7,
        prefix="qma.",
        sources=sources,
        settings=Settings(),
    )


def requests(minute: int, count: int) -> list[bytes]:
    """Returns good requests of one minute."""
    what = {"service": "checkout", "environment": "production", "namespace": "shop", "kind": "server", "status": "ok"}
    times = range(T0_NS + minute * MINUTE_NS, T0_NS + minute * MINUTE_NS + count)
    return [orjson.dumps({**what, "version": "v1", "time": time_ns}) for time_ns in times]


def exported(minute: int, start_ns: int, **totals: int) -> bytes:
    """Returns what a Collector that began at `start_ns` tells of itself 30 s into a minute: its counters so far."""
    resource = {
        "service.name": "otel-collector",
        "service.namespace": "shop",
        "deployment.environment.name": "production",
        "service.instance.id": "1",
    }
    time_ns = T0_NS + minute * MINUTE_NS + 30 * SECOND_NS

    def metric(name: str, total: int) -> dict[str, Any]:
        point = {"startTimeUnixNano": str(start_ns), "timeUnixNano": str(time_ns), "asInt": str(total)}
        return {"name": name, "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}}

    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in resource.items()]
    metrics = [metric(name, total) for name, total in totals.items()]
    return orjson.dumps(
        {"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": metrics}]}]}
    )


def told(lost: dict[int, int], per_minute: int = 200, restarted_at: int | None = None) -> list[Output]:
    """Returns the outputs of forty minutes in which the Collector could not send so many spans."""
    whole, outputs, heard = Whole(bundle()), list[Output](), list[bytes]()
    start_ns, accepted, failed = T0_NS, 0, 0
    for minute in range(MINUTES):
        if minute == restarted_at:
            start_ns, accepted, failed = T0_NS + minute * MINUTE_NS, 0, 0
        accepted, failed = accepted + 1_000, failed + lost.get(minute, 0)
        counters = exported(minute, start_ns, **{ACCEPTED: accepted, FAILED: failed, FULL: 0})
        until_ns = T0_NS + (minute + 1) * MINUTE_NS
        new = whole.feed(requests(minute, per_minute), [counters], heard, until_ns=until_ns)
        heard = published(new)
        outputs += new
    return outputs


def checked_out(outputs: list[Output]) -> SliEvent:
    return [o for o in outputs if isinstance(o, SliEvent) and o.objective.name == "lost-spans"][-1]


def certificate(outputs: list[Output]) -> CertificateEvent:
    return [o for o in outputs if isinstance(o, CertificateEvent) and o.service == CHECKOUT][-1]


def test_what_a_collector_lost_may_have_been_failures_of_a_service_in_another_partition() -> None:
    assert partition_of(CHECKOUT, 7) != partition_of(COLLECTOR, 7)
    found = told({5: 40, 20: 3_000})
    # 3,000 in a minute in which 1,000 were accepted: what was tried for minutes is given up at once
    (told_more,) = [o for o in found if isinstance(o, SliEvent) and o.bad_counted]
    assert (told_more.minute - T0, told_more.bad_counted, told_more.minute_sli.good) == (20, 3_000.0, 0.0)
    assert orjson.loads(render(told_more).value)["data"]["minute"]["bad_counted"] == 3_000.0
    event = checked_out(found)
    assert (event.window_sli.n, event.window_sli.n_missing) == (200 * (event.minute + 1 - T0), 3_040)
    assert certificate(found).reasons == (Reason.MISSING_EVENTS,)


def test_where_nothing_was_lost_it_is_certified_as_soon_as_that_is_told() -> None:
    outputs = told({})
    assert checked_out(outputs).window_sli.n_missing == 0
    assert certificate(outputs).state is CertificateState.ISSUED


def test_a_collector_that_is_restarted_counts_from_nothing_again_and_what_it_told_stays() -> None:
    event = checked_out(told({5: 40, 6: 2, 30: 7}, restarted_at=20))
    assert event.window_sli.n_missing == 49
