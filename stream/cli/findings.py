"""What is wrong with what arrives, what could be better, and the exact line that changes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from stream.cli.sampled import SIGNAL_NAMES, ServiceSample, TopicSample
from stream.config.problems import nearest, quoted
from stream.config.sources import source_text, telemetry
from stream.core.columns import Kind, Signal
from stream.core.service_key import UNKNOWN_ENVIRONMENT, split_service_key
from stream.core.slo.spec import CARRIERS, Bundle, Encoding, Objective, SliSignal, Source, SourceSignal
from stream.kafka.newest import Newest

NAMED_MAX = 5
"""Services named in one finding; the others are counted."""

_SMALL_MESSAGE_ITEMS = 8
_MANY_MESSAGES = 100
_UNNAMED = "unknown_service"

_SIGNALS = {name: SourceSignal(name) for name in SIGNAL_NAMES.values()}
_ROW_SIGNALS = (Signal.SPAN, Signal.EVENT)


class Level(StrEnum):
    """How much a finding matters."""

    CHANGE = "change"
    """Something is wrong: it needs a change."""
    ADVICE = "advice"
    """It works, and could be better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to change.

    Args:
        level: How much it matters.
        about: The topic, service, objective or `pipeline` that it is about.
        says: What is so, in a sentence.
        fix: The exact lines to write and what to write them into.
    """

    level: Level
    about: str
    says: str
    fix: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicReport:
    """One topic: what was read of it, and how it is configured.

    Args:
        sample: Its newest messages.
        newest: How they were read.
        source: What the configuration says of it; None where it is not a source.
    """

    sample: TopicSample
    newest: Newest = field(default_factory=Newest)
    source: Source | None = None

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self.sample.topic

    @property
    def signal(self) -> SourceSignal | None:
        """What it carries most; None where nothing was read."""
        forms = self.sample.forms.most_common(1)
        return _SIGNALS[forms[0][0][0]] if forms else None

    @property
    def seen(self) -> Source | None:
        """The source as it should be configured, by what arrives; None where nothing could be read."""
        if self.signal is None:
            return None
        encodings = {encoding for signal, encoding in self.sample.forms if signal == self.signal}
        encoding = encodings.pop() if len(encodings) == 1 else Encoding.AUTO.value
        return Source(topic=self.topic, encoding=encoding, signal=self.signal.value)


def findings(reports: Sequence[TopicReport], bundle: Bundle | None) -> list[Finding]:
    """Returns what to change, by what the newest messages of the topics show.

    Args:
        reports: The topics that were looked at.
        bundle: The configuration; None where there is none.
    """
    found: list[Finding] = []
    for report in reports:
        found += _existence(report)
        if report.newest.partitions and report.sample.messages:
            found += [*_reading(report), *_refusals(report), *_transport(report)]
    found += _sources(reports, bundle)
    found += _names(reports)
    found += _requests(reports, bundle)
    found += _counted_twice(reports)
    found += _sampling(reports, bundle)
    if bundle is not None:
        found += _objectives(reports, bundle)
    return in_order(found)


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Returns the findings, those that need a change first."""
    return sorted(found, key=lambda finding: finding.level is not Level.CHANGE)


def _existence(report: TopicReport) -> Iterator[Finding]:
    topic = report.topic
    if report.newest.partitions is None:
        yield Finding(
            level=Level.CHANGE,
            about=topic,
            says="there is no such topic"
            + (", and the configuration reads it: no minute closes" * bool(report.source)),
            fix=(
                f"create it: qma topics apply --source {topic}",
                _writer(report),
            ),
        )
    elif not report.sample.messages and not report.newest.refused:
        yield Finding(
            level=Level.CHANGE,
            about=topic,
            says="it holds no message",
            fix=(
                _writer(report),
                "or leave it out of `qma apply FILE… --source …`: list only topics that are written to",
            ),
        )


def _writer(report: TopicReport) -> str:
    """Returns the line that makes someone write to the topic."""
    if report.sample.signal is Signal.EVENT:
        return f"send something: qma send {report.topic} < events.jsonl"
    signal = SIGNAL_NAMES[report.sample.signal or Signal.SPAN]
    return (
        f"Collector: exporters.kafka.{signal}.topic: {report.topic}, and kafka in service.pipelines.{signal}.exporters"
    )


def _reading(report: TopicReport) -> Iterator[Finding]:
    """What of a topic is not read as it is written."""
    sample, seen, source = report.sample, report.seen, report.source
    signals = {signal for signal, _ in sample.forms}
    if len(signals) > 1:
        shares = ", ".join(
            f"{signal} as {encoding} ({count(number, 'message')})"
            for (signal, encoding), number in sample.forms.most_common()
        )
        yield Finding(
            level=Level.CHANGE,
            about=report.topic,
            says=f"several signals share the topic: {shares}; one of them is read",
            fix=("Collector: give each signal a topic: exporters.kafka.{traces,metrics,logs}.topic",),
        )
    if source is None or seen is None:
        return
    declared = f"{source.signal} as {source.encoding}"
    if source.signal != seen.signal or source.encoding not in (seen.encoding, Encoding.AUTO):
        yield Finding(
            level=Level.CHANGE,
            about=report.topic,
            says=f"it is configured to carry {declared}; what arrives is {seen.signal} as {seen.encoding}",
            fix=(f"qma apply FILE… --source {source_text(seen)}   (and a --source for each other topic)",),
        )


_REASON_FIXES: Mapping[str, str] = {
    "malformed": "look at it with `qma decode --topic`; another program may write to this topic",
    "wrong_type": "correct the producer: a field has another type than the format says",
    "missing_field": "correct the producer: a field that is needed is missing",
    "out_of_range": "correct the producer: a value is none that can be",
    "too_large": "send smaller messages, or allow larger ones: qma apply FILE… --set limits.message_bytes=N",
    "too_many_items": "Collector: processors.batch.send_batch_max_size: 8192, or qma apply FILE… --set limits.items=N",
    "too_many_attributes": "SDK: OTEL_ATTRIBUTE_COUNT_LIMIT=128, or qma apply FILE… --set limits.attributes=N",
    "too_many_buckets": "use fewer buckets, or qma apply FILE… --set limits.explicit_buckets=N "
    "(limits.exponential_buckets)",
    "value_too_long": "SDK: OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=4096, or qma apply FILE… --set limits.value_bytes=N",
    "too_deep": "correct the producer: its attributes are nested too deep",
    "unsupported": "send histograms instead of summaries",
    "future": "set the producer's clock: its items end more than five minutes from now",
    "too_many_streams": "qma apply FILE… --set streams_max=N",
}


def reason_fix(reason: str) -> str:
    """Returns what helps against a refusal."""
    return _REASON_FIXES.get(reason, "look at it with `qma tail deadletter`")


def _refusals(report: TopicReport) -> Iterator[Finding]:
    total = max(1, report.sample.items + report.sample.unreadable)
    for reason, refusals in sorted(report.sample.rejected.items(), key=lambda entry: -entry[1].items):
        yield Finding(
            level=Level.CHANGE,
            about=report.topic,
            says=f"{refusals.items:,} of {total:,} items are refused as {reason}: {'; or: '.join(refusals.details)}",
            fix=(reason_fix(reason),),
        )
    yield from _clocks(report, total)
    for batch in report.newest.refused[:1]:
        number = len(report.newest.refused)
        more = f"; {number:,} such batches" if number > 1 else ""
        fixes = {
            "too_large": (
                "Collector: exporters.kafka.producer: {max_message_bytes: 1000000, flush_max_messages: 100}",
                "or allow larger batches: qma worker --batch-bytes-max N",
            )
        }
        yield Finding(
            level=Level.CHANGE,
            about=report.topic,
            says=f"a record batch is refused as {batch.reason.value}: {batch.detail}{more}",
            fix=fixes.get(batch.reason.value, ("look at the broker's disk: it was damaged after it was sent",)),
        )


def _clocks(report: TopicReport, total: int) -> Iterator[Finding]:
    """Items whose time is so far from that of their message that they will not be counted."""
    for items, says, fix in (
        (report.sample.future, "end more than five minutes after now: refused as future", reason_fix("future")),
        (
            report.sample.late,
            "end more than six hours before their message was written: late, so not counted",
            "look at the producers' clocks and at the Collector's sending_queue",
        ),
    ):
        if items:
            says = f"{items:,} of {total:,} items {says}"
            yield Finding(level=Level.CHANGE, about=report.topic, says=says, fix=(fix,))


def _transport(report: TopicReport) -> Iterator[Finding]:
    """How messages could travel better."""
    sample, topic = report.sample, report.topic
    is_otlp = report.signal is not SourceSignal.EVENTS
    batches = sum(report.newest.batches.values())
    if plain := report.newest.batches["none"]:
        yield Finding(
            level=Level.ADVICE,
            about=topic,
            says=f"{plain:,} of {batches:,} record batches are not compressed",
            fix=(
                "Collector: exporters.kafka.producer.compression: zstd"
                if is_otlp
                else "producer: compression.type=zstd",
            ),
        )
    small = sample.messages >= _MANY_MESSAGES and sample.items < _SMALL_MESSAGE_ITEMS * sample.messages
    if is_otlp and sample.keys["trace id"] and small:
        yield Finding(
            level=Level.ADVICE,
            about=topic,
            says="one message per trace: many small messages, and nothing here needs them apart",
            fix=("Collector: exporters.kafka.partition_traces_by_id: false",),
        )
    elif is_otlp and small:
        each = sample.items / sample.messages
        yield Finding(
            level=Level.ADVICE,
            about=topic,
            says=f"a message holds {each:.1f} items on average: larger ones cost less",
            fix=("Collector: processors.batch: {send_batch_size: 512, timeout: 1s}, in service.pipelines",),
        )
    if sample.invalid_texts:
        yield Finding(
            level=Level.ADVICE,
            about=topic,
            says=f"{count(sample.invalid_texts, 'item')} with a text that is no UTF-8: counted, with U+FFFD for what "
            "cannot be read",
            fix=("correct the producer: `qma decode` flags them as invalid_utf8",),
        )
    if sample.repeated:
        same = "the bytes" if is_otlp else "the service and the `id`"
        yield Finding(
            level=Level.ADVICE,
            about=topic,
            says=f"{count(sample.repeated, 'message')} with {same} of an earlier one, as in retries: counted once",
            fix=("nothing needs a change; to count each: qma apply FILE… --set duplicate_minutes=0",),
        )


def _sources(reports: Sequence[TopicReport], bundle: Bundle | None) -> Iterator[Finding]:
    """Topics that carry something and are not read."""
    unread = [seen for report in reports if report.source is None and (seen := report.seen) is not None]
    if not unread:
        return
    wanted = [*telemetry(bundle.sources if bundle is not None else ()), *unread]
    line = "qma apply FILE… " + " ".join(f"--source {source_text(source)}" for source in wanted)
    says = "nothing is configured yet" if bundle is None else "the configuration does not read it"
    about = ", ".join(source.topic for source in unread)
    yield Finding(level=Level.ADVICE, about=about, says=says, fix=(line,))


def _names(reports: Sequence[TopicReport]) -> Iterator[Finding]:
    """Services without a name, an environment or a version: nothing can be certified of them."""
    services = _services(reports)
    in_events = _services(reports, Signal.EVENT)
    nameless = [key for key in services if split_service_key(key)[2].startswith(_UNNAMED)]
    homeless = [key for key in services if split_service_key(key)[0] == UNKNOWN_ENVIRONMENT]
    unversioned = [key for key, sample in services.items() if sample.versions[""]]
    for keys, what, attribute, value in (
        (nameless, "no service.name", "service.name", "checkout"),
        (homeless, "no deployment.environment.name: they are never certified", "deployment.environment.name", "prod"),
        (unversioned, "no service.version: a certificate is about a version", "service.version", "1.4.2"),
    ):
        if not keys:
            continue
        fix: tuple[str, ...] = (f"service: OTEL_RESOURCE_ATTRIBUTES={attribute}={value}",)
        if keys is homeless:  # of name and version a Collector knows nothing
            resource = f"[{{key: {attribute}, value: {value}, action: insert}}]"
            fix = (*fix, f"or Collector: processors.resource.attributes: {resource}, in service.pipelines")
        if any(key in in_events for key in keys):
            elsewhere = any(key not in in_events for key in keys)
            fix = (*(fix if elsewhere else ()), f'flat events: "{_flat_name(attribute)}": "{value}"')
        yield Finding(
            level=Level.CHANGE,
            about=_listed(keys),
            says=f"{count(len(keys), 'service')} with items that say {what}",
            fix=fix,
        )


def _flat_name(attribute: str) -> str:
    return {"service.name": "service", "service.version": "version"}.get(attribute, "environment")


def _requests(reports: Sequence[TopicReport], bundle: Bundle | None) -> Iterator[Finding]:
    """Services whose spans do not count as requests."""
    for key, sample in _services(reports, *_ROW_SIGNALS).items():
        kinds = _kinds_wanted(bundle, key)
        if not sample.kinds or any(sample.kinds[Kind(kind).name] for kind in kinds):
            continue
        names = [Kind(kind).name for kind in kinds]
        others = ", ".join(f"{kind} {items:,}" for kind, items in sample.kinds.most_common())
        most = sample.kinds.most_common(1)[0][0].lower()
        yield Finding(
            level=Level.CHANGE,
            about=key,
            says=f"none of its spans counts as a request: those have kind {' or '.join(names)}, it sends {others}",
            fix=(
                "instrument what serves the requests (a span of kind SERVER or CONSUMER)",
                f"or, if these are the requests, in the SLO file, in both metricSource.spec: kinds: [{most}]",
            ),
        )


def _counted_twice(reports: Sequence[TopicReport]) -> Iterator[Finding]:
    """Services whose requests arrive as spans and as flat events."""
    spans, events = _services(reports, Signal.SPAN), _services(reports, Signal.EVENT)
    if both := [key for key in spans if key in events]:
        yield Finding(
            level=Level.ADVICE,
            about=_listed(both),
            says="sends spans and flat events: objectives on spans count both, and a request that sends both twice",
            fix=("send one of the two for a request, or read one of the topics: qma apply FILE… --source …",),
        )


def _kinds_wanted(bundle: Bundle | None, service: str) -> tuple[int, ...]:
    objectives = bundle.objectives if bundle is not None else ()
    mine = [o for o in objectives if o.service == service and o.signal is SliSignal.SPANS]
    return tuple(sorted({kind for o in mine for kind in o.kinds})) or (Kind.SERVER, Kind.CONSUMER)


def _sampling(reports: Sequence[TopicReport], bundle: Bundle | None) -> Iterator[Finding]:
    """Services of which nobody knows how many items stand for how many."""
    declared: dict[str, bool] = {}
    for objective in bundle.objectives if bundle is not None else ():
        if objective.signal is not SliSignal.METRICS and objective.certified:
            declared[objective.service] = declared.get(objective.service, True) and objective.sampling_none
    services = _services(reports, *_ROW_SIGNALS)
    open_ones = {
        key: sample for key, sample in services.items() if sample.unknown_sampling and not declared.get(key, False)
    }
    if not open_ones:
        return
    unknown, items = (sum(getattr(s, name) for s in open_ones.values()) for name in ("unknown_sampling", "items"))
    marked = "" if unknown == items else "; the others carry one, so some of the ways that spans take are sampled"
    yield Finding(
        level=Level.CHANGE,
        about=_listed(list(open_ones)),
        says=f"{unknown / items:.0%} of {items:,} spans carry no sampling threshold, so one may stand for many: "
        f"nothing is certified{marked}",
        fix=(
            "if nothing samples them, in the SLO file, below metadata: annotations: {qma/sampling: none}",
            "if the Collector does, so that it writes the threshold: processors.probabilistic_sampler: "
            "{mode: proportional, sampling_percentage: 10}",
            "tail_sampling leaves no mark: export to Kafka before it",
        ),
    )


def _objectives(reports: Sequence[TopicReport], bundle: Bundle) -> Iterator[Finding]:
    """Objectives that none of the newest messages would count for."""
    carried = {report.signal for report in reports}
    services = _services(reports)
    metrics = {name for report in reports for name in report.sample.metrics}
    events = {name for report in reports for name in report.sample.log_events if name}
    for objective in bundle.objectives:
        name = f"{objective.service}/{objective.name}"
        if not _is_carried(objective, carried):
            continue  # its topic was not looked at, or is empty: said above
        missing: tuple[str, str, Iterable[str]] | None = None
        if objective.service not in services:
            missing = ("service", objective.service, services)
        elif objective.metric is not None and objective.metric not in metrics:
            missing = ("metric", objective.metric, metrics)
        elif objective.event is not None and objective.event not in events:
            missing = ("log event", objective.event, events)
        if missing is not None:
            yield _unseen(name, *missing)


def _is_carried(objective: Objective, carried: Iterable[SourceSignal | None]) -> bool:
    return any(signal in CARRIERS[objective.signal] for signal in carried)


def _unseen(about: str, what: str, wanted: str, seen: Iterable[str]) -> Finding:
    known = sorted(seen)
    guess = nearest(wanted, known)
    meant = f"it is called {quoted(guess)}" if guess else f"what arrives is {_listed(known) or 'none'}"
    return Finding(
        level=Level.CHANGE,
        about=about,
        says=f"counts the {what} {quoted(wanted)}, which is in none of these messages",
        fix=(f"SLO file: {meant}; correct it, or wait until it sends something",),
    )


def _services(reports: Sequence[TopicReport], *signals: Signal) -> dict[str, ServiceSample]:
    """Returns the services of all topics that carry one of the signals, or anything."""
    wanted = {SIGNAL_NAMES[signal] for signal in signals} or set(SIGNAL_NAMES.values())
    merged: dict[str, ServiceSample] = {}
    for report in reports:
        if report.signal is None or report.signal.value not in wanted:
            continue
        for key, sample in report.sample.services.items():
            have = merged.get(key)
            merged[key] = sample if have is None else _merged(have, sample)
    return dict(sorted(merged.items(), key=lambda entry: -entry[1].items))


def _merged(one: ServiceSample, other: ServiceSample) -> ServiceSample:
    return replace(
        one,
        items=one.items + other.items,
        versions=one.versions + other.versions,
        kinds=one.kinds + other.kinds,
        unknown_sampling=one.unknown_sampling + other.unknown_sampling,
        weight=one.weight + other.weight,
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def count(number: int, noun: str) -> str:
    """Returns a number with its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
