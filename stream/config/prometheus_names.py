"""What OpenTelemetry calls a metric, and a label of it, that Prometheus knows under a name without dots.

Only the names of the semantic conventions and of the Collector's spanmetrics connector can be told from such a name;
others are taken as they are, which is right for what a Prometheus receiver scrapes.

Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility" (units and `_total` are appended, what
is no letter, digit or `_` becomes `_`; `job` is service.namespace/service.name, `instance` is service.instance.id);
semantic conventions 1.44, metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stream.config.problems import quoted
from stream.core.errors import ConfigError
from stream.core.otlp.semconv import OLD_NAMES, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION

ENVIRONMENT = "deployment.environment.name"
SPAN_KIND = "span.kind"
STATUS_CODE = "status.code"
ENVIRONMENT_LABELS = (
    ENVIRONMENT,
    "deployment_environment_name",
    "deployment.environment",
    "deployment_environment",
    "environment",
    "env",
)
NAMESPACE_LABELS = (SERVICE_NAMESPACE, "service_namespace")

_COUNTER = "_total"
_SECONDS = "_seconds"
_MILLISECONDS = "_milliseconds"

_UNIT_EXPONENTS = {_SECONDS: 0, _MILLISECONDS: -3}

_CONVENTIONS = {
    "http.server.request.duration": _SECONDS,
    "http.client.request.duration": _SECONDS,
    "http.server.duration": _MILLISECONDS,
    "http.client.duration": _MILLISECONDS,
    "rpc.server.call.duration": _SECONDS,
    "rpc.client.call.duration": _SECONDS,
    "rpc.server.duration": _MILLISECONDS,
    "rpc.client.duration": _MILLISECONDS,
    "db.client.operation.duration": _SECONDS,
    "messaging.client.operation.duration": _SECONDS,
    "messaging.process.duration": _SECONDS,
    "gen_ai.client.operation.duration": _SECONDS,
    "gen_ai.server.request.duration": _SECONDS,
    "faas.invoke_duration": _SECONDS,
}
_SPANMETRICS = (
    ("calls", _COUNTER),
    ("duration", _SECONDS),
    ("duration", _MILLISECONDS),
    ("traces.span.metrics.calls", _COUNTER),
    ("traces.span.metrics.duration", _SECONDS),
    ("traces.span.metrics.duration", _MILLISECONDS),
)
_OTHER_ATTRIBUTES = (
    "error.type",
    "gen_ai.operation.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "http.route",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.deployment.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.operation.name",
    "messaging.system",
    "rpc.method",
    "rpc.service",
    "service.instance.id",
    SERVICE_VERSION,
    SPAN_KIND,
    "span.name",
    STATUS_CODE,
)
_ON_EVERY_METRIC = {
    "job": SERVICE_NAME,
    "service_name": SERVICE_NAME,
    "service_namespace": SERVICE_NAMESPACE,
    "instance": "service.instance.id",
    **dict.fromkeys(ENVIRONMENT_LABELS, ENVIRONMENT),
}


def _label(attribute: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)


_METRICS: Mapping[str, tuple[str, bool]] = {
    **{_label(name) + suffix: (name, False) for name, suffix in _CONVENTIONS.items()},
    **{_label(name) + suffix: (name, True) for name, suffix in _SPANMETRICS},
}
_ATTRIBUTES: Mapping[str, str] = {
    **{_label(old): name for name, old in OLD_NAMES.items()},
    **{_label(name): name for name in (*OLD_NAMES, *_OTHER_ATTRIBUTES)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricName:
    """A metric as telemetry names it.

    Args:
        name: Its name.
        is_conventional: The name is known from the semantic conventions or the spanmetrics connector.
        is_spanmetrics: The spanmetrics connector writes it.
        unit_exponent: Its unit is a second times 10 to this power; None where its name says no unit of time.
    """

    name: str
    is_conventional: bool
    is_spanmetrics: bool
    unit_exponent: int | None


def metric_name(name: str) -> MetricName:
    """Returns what telemetry calls a metric.

    Args:
        name: Its name in Prometheus, without the `_count` and `_bucket` of a histogram.
    """
    if "." in name:  # Prometheus 3 can keep OpenTelemetry's names.
        return MetricName(
            name=name,
            is_conventional=True,
            is_spanmetrics=False,
            unit_exponent=_UNIT_EXPONENTS.get(_CONVENTIONS.get(name, "")),
        )
    original, is_spanmetrics = _METRICS.get(name, (name, False))
    return MetricName(
        name=original,
        is_conventional=name in _METRICS,
        is_spanmetrics=is_spanmetrics,
        unit_exponent=next((e for unit, e in _UNIT_EXPONENTS.items() if name.endswith(unit)), None),
    )


def attribute_name(label: str, metric: MetricName, *, is_quoted: bool) -> str:
    """Returns the attribute that a label of a metric is made from.

    Args:
        label: The label.
        metric: Its metric.
        is_quoted: The label stood in quotes, so its dots are there to be seen.

    Raises:
        ConfigError: It could be made from more than one.
    """
    if label in _ON_EVERY_METRIC:
        return _ON_EVERY_METRIC[label]
    if not metric.is_conventional or is_quoted:
        return label
    known = _ATTRIBUTES.get(label)
    if known is None and "_" in label:
        dotted = label.replace("_", ".")
        raise ConfigError(
            f"the label {quoted(label)} may be the attribute {quoted(dotted)} or {quoted(label)}; "
            f'write the attribute itself in quotes, for example `"{dotted}"="…"`'
        )
    return known or label
