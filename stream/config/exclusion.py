"""What does not count although it is of the service: health checks, synthetic and shadow traffic, what a file names.

Requests that no user waits for would make a service look better, or worse, than its users find it.
"""

from __future__ import annotations

from collections.abc import Mapping

from stream.config.problems import either, quoted
from stream.config.sections import Section, not_among
from stream.config.wanted import covers, named, read_wanted
from stream.config.yaml_positions import Scalar
from stream.core.slo.selection import merged
from stream.core.slo.spec import SliSignal, Wanted

ROUTE = "http.route"
HEALTH_ROUTES = (
    "/-/healthy",
    "/-/ready",
    "/actuator/health",
    "/actuator/health/liveness",
    "/actuator/health/readiness",
    "/health",
    "/health/live",
    "/health/ready",
    "/healthz",
    "/live",
    "/livez",
    "/ping",
    "/ready",
    "/readyz",
)
"""Sources: Kubernetes (`/healthz`, `/livez`, `/readyz`), Prometheus (`/-/…`), Spring Boot (`/actuator/…`), custom."""

TRAFFIC = "qma.traffic"
"""Our attribute for what no convention names: a service or a proxy sets it to the class of the traffic."""

CLASSES: Mapping[str, Wanted] = {
    "health": ((ROUTE, HEALTH_ROUTES), (TRAFFIC, ("health",)), ("rpc.service", ("grpc.health.v1.Health",))),
    "synthetic": ((TRAFFIC, ("synthetic",)), ("user_agent.synthetic.type", ("bot", "test"))),
    "shadow": ((TRAFFIC, ("shadow",)),),
}
"""Traffic that users do not wait for, and the attributes that tell. Source: OpenTelemetry semantic conventions."""


DEFAULT_WITHOUT = merged(CLASSES.values())
"""What spans and flat events are counted without, unless `exclude` says otherwise."""


def read_without(selector: Section, signal: SliSignal | None, attributes: Wanted) -> Wanted | None:
    """Returns what does not count, from the fields `exclude` and `without`, or None after a report.

    An attribute that the selection names itself excludes nothing by default: who asks for `/health` gets it.

    Args:
        selector: The selector.
        signal: What it selects; only spans leave anything out by default.
        attributes: What the selection names.
    """
    before = len(selector.problems)
    classes = _classes(selector, signal)
    selected = dict(attributes)
    standing = merged(CLASSES[name] for name in classes)
    own = read_wanted(selector, "without", example="{http.route: /metrics}") if "without" in selector.entries else ()
    if own is None or len(selector.problems) > before:
        return None
    for key, values in own:
        if key in selected and covers(values, selected[key]):
            selector.refuse("without", f"leaves out all that `attributes` selects by {quoted(key)}; remove one of them")
            return None
    return merged([tuple(entry for entry in standing if entry[0] not in named(attributes)), own])


def _classes(selector: Section, signal: SliSignal | None) -> tuple[str, ...]:
    entry = selector.entries.get("exclude")
    if entry is None:
        return tuple(CLASSES) if signal is SliSignal.SPANS else ()
    if isinstance(entry.value, Scalar):
        text = selector.text("exclude")
        if text not in (None, "none"):
            fix = f"write `exclude: none`, or a list of {either(CLASSES)}"
            selector.refuse("exclude", f"{quoted(str(text))} is not known; {fix}")
        return ()
    items = selector.items("exclude", example="[health]")
    if items is None:
        return ()
    if not items:
        selector.refuse("exclude", "is an empty list; write `exclude: none` to leave nothing out")
    found = []
    for i, item in enumerate(items):
        path = f"{selector.path_of('exclude')}[{i}]"
        text = selector.text_of(item, path)
        if text is not None and text not in CLASSES:
            selector.refuse_at(item.position, path, not_among(text, tuple(CLASSES)))
        elif text is not None:
            found.append(text)
    return tuple(found)
