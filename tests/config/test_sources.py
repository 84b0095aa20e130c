"""`TOPIC=[SIGNAL:]ENCODING`: a well-known name says what the topic carries."""

from __future__ import annotations

import pytest

from stream.config.sources import read_source, source_text
from stream.core.errors import ConfigError
from stream.core.slo.spec import Source


@pytest.mark.parametrize(
    ("text", "topic", "signal", "encoding"),
    [
        ("otlp_spans=otlp_proto", "otlp_spans", "traces", "otlp_proto"),
        ("otlp_metrics=otlp_json", "otlp_metrics", "metrics", "otlp_json"),
        ("otlp_logs=auto", "otlp_logs", "logs", "auto"),
        ("telemetry.events=flat", "telemetry.events", "events", "flat"),
        ("telemetry.events=auto", "telemetry.events", "events", "auto"),
        ("eu.otlp_logs=otlp_proto", "eu.otlp_logs", "logs", "otlp_proto"),
        ("not_otlp_logs=otlp_proto", "not_otlp_logs", "traces", "otlp_proto"),
        ("orders=otlp_proto", "orders", "traces", "otlp_proto"),
        ("orders=flat", "orders", "events", "flat"),
        ("orders=metrics:otlp_proto", "orders", "metrics", "otlp_proto"),
        ("otlp_spans=logs:otlp_proto", "otlp_spans", "logs", "otlp_proto"),
    ],
)
def test_a_source_is_what_it_says_or_what_its_name_says(text: str, topic: str, signal: str, encoding: str) -> None:
    source = read_source(text)
    assert source == Source(topic=topic, encoding=encoding, signal=signal)
    assert read_source(source_text(source)) == source


@pytest.mark.parametrize("text", ["", "orders", "=flat", "orders=", "orders=logs:", "orders=:flat"])
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="write TOPIC=ENCODING or TOPIC=SIGNAL:ENCODING"):
        read_source(text)
