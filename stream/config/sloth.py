"""Sloth specifications in: what each of their SLOs means in our terms, or a line for each that cannot be expressed.

Read are files of `version: prometheus/v1` and the Kubernetes resource PrometheusServiceLevel of `sloth.slok.dev/v1`.

Source: Sloth, `pkg/prometheus/api/v1` and `pkg/kubernetes/api/sloth/v1`. Names of fields are in snake case in one and
in camel case in the other; both are read in both, as both are found in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from stream.config.metadata import DESCRIPTION_CHARACTERS_MAX, slug
from stream.config.numbers import canonical
from stream.config.problems import FILE_START, Position, Problem, quoted, refuse_if_any, shown
from stream.config.prometheus_names import ENVIRONMENT_LABELS, NAMESPACE_LABELS
from stream.config.sections import Section, not_among, open_section
from stream.config.selection import read_attribute
from stream.config.sloth_indicator import SlothIndicator, read_indicator, read_total
from stream.config.time_slices import TARGET_DIGITS_MAX
from stream.config.wanted import not_comparable
from stream.config.yaml_positions import FILE_BYTES_MAX, Node, Scalar, ScalarKind, read_documents
from stream.core.errors import ConfigError
from stream.core.slo.burn_rate import Severity
from stream.core.slo.selection import can_be_compared

VERSION = "prometheus/v1"
API_VERSION = "sloth.slok.dev/v1"
KIND = "PrometheusServiceLevel"

_SPEC_FIELDS = ("service", "labels", "slos", "slo_plugins", "sloPlugins")
_SLO_FIELDS = ("name", "description", "objective", "labels", "sli", "alerting", "plugins")
_ALERTING_FIELDS = ("name", "labels", "annotations", "page_alert", "pageAlert", "ticket_alert", "ticketAlert")
_EVENTS = "write `events:` with `error_query` and `total_query`"
_QUERY = 'sum(rate(http_requests_total{code=~"5.."}[{{.window}}]))'


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where services run, where the queries do not say it.

    Args:
        environment: `deployment.environment.name`; None: the label of the specification that names one.
        namespace: `service.namespace`; None: the label of the specification that names one, or none.
    """

    environment: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlothSlo:
    """An SLO of a specification.

    Args:
        file: The file it is in.
        position: Where it starts.
        service: Name of the service.
        name: Its name, unique among those of the service.
        description: What it is for.
        objective_percent: The objective, as it is written.
        labels: Labels of the service and of the SLO.
        alerting: What its alerts are called and carry, by path.
        silent: Whose alerts are switched off.
        error_query: The query that counts the errors.
        total_query: The query that counts all events.
        indicator: What the queries count.
        environment: `deployment.environment.name`.
        namespace: `service.namespace`; None for none.
    """

    file: str
    position: Position
    service: str
    name: str
    description: str | None
    objective_percent: str
    labels: Mapping[str, str]
    alerting: Mapping[str, str]
    silent: tuple[Severity, ...]
    error_query: str
    total_query: str
    indicator: SlothIndicator
    environment: str
    namespace: str | None

    @property
    def document_name(self) -> str:
        """Its name among all services."""
        return slug(f"{self.service}-{self.name}")


@dataclass(slots=True)
class SlothFile:
    """What was read of a file. `problems`: why the rest was not."""

    slos: list[SlothSlo] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """What holds for all SLOs of a document."""

    file: str
    name: str
    labels: Mapping[str, str]
    places: Places


def read_sloth(path: Path, places: Places) -> SlothFile:
    """Returns the SLOs of a file that can be expressed, and a problem for each that cannot.

    Raises:
        ConfigError: The file cannot be read, or is no YAML that can be read to its end.
    """
    try:
        with path.open("rb") as file:
            documents = read_documents(str(path), file.read(FILE_BYTES_MAX + 1))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); check the name and the permissions") from error
    refuse_if_any(documents.problems)
    found = SlothFile()
    for node in documents.nodes:
        _read_document(str(path), node, places, found)
    if not found.slos and not found.problems:
        message = f"holds no SLO; name a file with `version: {VERSION}` or the kind {KIND}"
        found.problems.append(Problem(file=str(path), position=FILE_START, path="file", message=message))
    _check_names(found)
    return found


def _read_document(file: str, node: Node, places: Places, found: SlothFile) -> None:
    spec = _open_spec(file, node, found.problems)
    if spec is None:
        return
    before = len(found.problems)
    name = read_attribute(spec, "service", "add `service: checkout` with the service.name that the service reports")
    labels = _texts(spec, "labels")
    _refuse_plugins(spec, ("slo_plugins", "sloPlugins"))
    items = spec.items("slos", example="[{name: availability, …}]", missing="add `slos:` with one SLO at least") or ()
    if name is None or len(found.problems) > before:
        return
    service = _Service(file=file, name=name, labels=labels, places=places)
    for i, item in enumerate(items):
        section = spec.section_of(item, f"{spec.path_of('slos')}[{i}]", _SLO_FIELDS, item.position)
        slo = None if section is None else _read_slo(section, service)
        if slo is not None:
            found.slos.append(slo)


def _open_spec(file: str, node: Node, problems: list[Problem]) -> Section | None:
    """Returns the fields of a specification in either form, or None after reporting why they are not read."""
    root = open_section(node, file, "", None, problems)
    if root is None:
        return None
    if "apiVersion" not in root.entries:
        root = open_section(node, file, "", ("version", *_SPEC_FIELDS), problems)
        assert root is not None, "it was opened before"
        version = root.text("version", missing=f"add `version: {VERSION}`")
        if version not in (None, VERSION):
            root.refuse("version", f"{quoted(str(version))} is not supported; convert the file to `{VERSION}`")
        return root if version == VERSION else None
    version, kind = root.text("apiVersion"), root.text("kind", missing=f"add `kind: {KIND}`")
    if version not in (None, API_VERSION):
        fix = "apply it as it is" if str(version).startswith("openslo/") else f"write `{API_VERSION}`"
        root.refuse("apiVersion", f"{quoted(str(version))} is no specification of Sloth; {fix}")
    elif kind not in (None, KIND):
        root.refuse("kind", not_among(str(kind), (KIND,)))
    if version != API_VERSION or kind != KIND:
        return None
    return root.section("spec", _SPEC_FIELDS, missing="add `spec:` with `service` and `slos`")


def _read_slo(section: Section, service: _Service) -> SlothSlo | None:
    """Returns an SLO, or None after reporting why it cannot be expressed."""
    before = len(section.problems)
    name = section.text("name", missing="add `name: availability`")
    description = section.text("description")
    if description is not None and len(description) > DESCRIPTION_CHARACTERS_MAX:
        section.refuse("description", f"is too long; shorten it to at most {DESCRIPTION_CHARACTERS_MAX} characters")
    percent = _percent(section)
    labels = {**service.labels, **_texts(section, "labels")}
    _refuse_plugins(section, ("plugins",))
    alerting = _alerting(section)
    queries = _queries(section)
    if len(section.problems) > before or name is None or percent is None or queries is None:
        return None
    indicator = _indicator(*queries)
    places = None if indicator is None else _places(section, indicator, labels, service.places)
    if indicator is None or places is None or places.environment is None:
        return None
    return SlothSlo(
        file=service.file,
        position=section.position,
        service=service.name,
        name=name,
        description=description,
        objective_percent=percent,
        labels=labels,
        alerting=alerting.carried,
        silent=tuple(alerting.silent),
        error_query=queries[0].text,
        total_query=queries[1].text,
        indicator=indicator,
        environment=places.environment,
        namespace=places.namespace,
    )


@dataclass(frozen=True, slots=True)
class _Query:
    """A query and its place."""

    section: Section
    field: str
    text: str

    def refuse(self, message: str) -> None:
        self.section.refuse(self.field, message)


def _queries(slo: Section) -> tuple[_Query, _Query] | None:
    """Returns the error and the total query, or None after a report."""
    sli = slo.section("sli", ("events", "raw", "plugin"), missing=f"add `sli:` with {_EVENTS}")
    if sli is None:
        return None
    for name, reason in (("raw", "a ratio cannot be counted"), ("plugin", "a plugin's queries are not in this file")):
        if name in sli.entries:
            sli.refuse(name, f"{reason}; {_EVENTS}")
            return None
    events = sli.section(
        "events", ("error_query", "errorQuery", "total_query", "totalQuery"), missing=f"{_EVENTS} in `sli`"
    )
    if events is None:
        return None
    names = (_spelling(events, "error_query", "errorQuery"), _spelling(events, "total_query", "totalQuery"))
    error, total = (events.text(name, missing=f"add `{name}: {_QUERY}`") for name in names)
    if error is None or total is None:
        return None
    return _Query(events, names[0], error), _Query(events, names[1], total)


def _indicator(error: _Query, total: _Query) -> SlothIndicator | None:
    try:
        counted = read_total(total.text)
    except ConfigError as problem:
        total.refuse(str(problem))
        return None
    try:
        return read_indicator(counted, error.text)
    except ConfigError as problem:
        error.refuse(str(problem))
        return None


def _spelling(section: Section, snake: str, camel: str) -> str:
    """Returns which spelling of a field's name is there."""
    if snake in section.entries and camel in section.entries:
        section.refuse(camel, f"stands beside {snake}; remove one of the two")
    return camel if camel in section.entries else snake


def _percent(slo: Section) -> str | None:
    text = slo.number("objective", example="99.9", missing="add `objective: 99.9`, a percentage")
    if text is None:
        return None
    if not 0 < Fraction(text) < 100:
        reason = "leaves no error budget" if Fraction(text) == 100 else "is not between 0 and 100"
        slo.refuse("objective", f"{quoted(text)} {reason}; write a percentage, for example `99.9`")
    elif len(canonical(text, -2)) - len("0.") > TARGET_DIGITS_MAX:
        slo.refuse("objective", f"{quoted(text)} has too many digits; write fewer, for example `99.9`")
    return text


def _refuse_plugins(section: Section, names: Sequence[str]) -> None:
    for name in names:
        if name in section.entries:
            fix = "remove it if the SLO means the same without it"
            section.refuse(name, f"plugins change what Sloth generates, which cannot be expressed; {fix}")


@dataclass(slots=True)
class _Alerting:
    """What is said of alerts."""

    carried: dict[str, str] = field(default_factory=dict)
    silent: list[Severity] = field(default_factory=list)


def _alerting(slo: Section) -> _Alerting:
    """Returns what alerts are called and carry, by path, and which are switched off."""
    found = _Alerting()
    alerting = slo.section("alerting", _ALERTING_FIELDS)
    if alerting is None:
        return found
    name = alerting.text("name") if alerting.has("name") else None
    if name is not None:
        found.carried["name"] = name
    found.carried |= _carried(alerting, "")
    for severity in Severity:
        snake = f"{severity}_alert"
        alert = alerting.section(_spelling(alerting, snake, f"{severity}Alert"), ("disable", "labels", "annotations"))
        if alert is None:
            continue
        found.carried |= _carried(alert, f"{snake}.")
        if "disable" in alert.entries and alert.boolean("disable"):
            found.silent.append(severity)
            if len(found.silent) == len(Severity):
                fix = "let one of the two fire, or leave this SLO out with `--partial`"
                alert.refuse("disable", f"an SLO without any alert cannot be expressed; {fix}")
    return found


def _carried(section: Section, path: str) -> dict[str, str]:
    return {
        f"{path}{name}.{key}": text for name in ("labels", "annotations") for key, text in _texts(section, name).items()
    }


def _texts(section: Section, name: str) -> dict[str, str]:
    """Returns a mapping of texts; an empty one is, as in Prometheus, the same as none."""
    mapping = section.section(name, None) if section.has(name) else None
    if mapping is None:
        return {}
    texts = {}
    for key, entry in mapping.entries.items():
        if not isinstance(entry.value, Scalar):
            mapping.refuse(key, "must be text, not a list or a mapping; write one value")
        elif entry.value.kind is not ScalarKind.NULL and entry.value.text.strip():
            texts[key] = entry.value.text
    return texts


def _places(slo: Section, indicator: SlothIndicator, labels: Mapping[str, str], given: Places) -> Places | None:
    """Returns where the service runs: as the queries say, else the command line, else the labels."""
    before = len(slo.problems)
    for option, queried, chosen in (
        ("--environment", indicator.environment, given.environment),
        ("--namespace", indicator.namespace, given.namespace),
    ):
        if queried is not None and chosen not in (None, queried):
            slo.refuse("sli", f"the queries name {quoted(queried)}, not {quoted(str(chosen))}; correct `{option}`")
    environment = indicator.environment or given.environment or _first(labels, ENVIRONMENT_LABELS)
    namespace = indicator.namespace or given.namespace or _first(labels, NAMESPACE_LABELS)
    if environment is None:
        fix = "add `--environment production` with the deployment.environment.name that the service reports"
        slo.refuse("sli", f"neither the queries nor the labels name an environment; {fix}")
    for place in (environment, namespace):
        if place is not None and not can_be_compared(place):
            slo.refuse("sli", not_comparable(place, "a resource attribute"))
    return None if len(slo.problems) > before else Places(environment=environment, namespace=namespace)


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((labels[name] for name in names if name in labels), None)


def _check_names(found: SlothFile) -> None:
    """Reports SLOs whose names in OpenSLO are none, or the same."""
    first_of: dict[str, SlothSlo] = {}
    for slo in found.slos:
        first = first_of.setdefault(slo.document_name, slo)
        message = ""
        if not slo.document_name:
            message = f"{quoted(slo.name)} has no letter or digit for a name; rename it"
        elif first is not slo:
            message = f"becomes {quoted(slo.document_name)}, as the one on line {first.position.line} does; rename it"
        if message:
            problem = Problem(file=slo.file, position=slo.position, path=f"slo {shown(slo.name)}", message=message)
            found.problems.append(problem)
    found.slos = [slo for slo in found.slos if slo.document_name and first_of[slo.document_name] is slo]
