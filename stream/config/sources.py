"""The topics that are read: what they carry, how it is written, and whether it is what the objectives count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stream.config.annotations import LOST_BY
from stream.config.problems import either, nearest, quoted, shown
from stream.core.errors import ConfigError
from stream.core.slo.spec import CARRIERS, Encoding, Objective, SliSignal, Source, SourceSignal

TOPICS: Mapping[str, SourceSignal] = {
    "otlp_spans": SourceSignal.TRACES,
    "otlp_metrics": SourceSignal.METRICS,
    "otlp_logs": SourceSignal.LOGS,
    "telemetry.events": SourceSignal.EVENTS,
}
"""Names of topics that say what they carry: those of a Collector's Kafka exporter, and ours."""

ENCODINGS: Mapping[SourceSignal, tuple[Encoding, ...]] = {
    SourceSignal.TRACES: (Encoding.OTLP_PROTO, Encoding.OTLP_JSON, Encoding.AUTO),
    SourceSignal.METRICS: (Encoding.OTLP_PROTO, Encoding.OTLP_JSON, Encoding.AUTO),
    SourceSignal.LOGS: (Encoding.OTLP_PROTO, Encoding.OTLP_JSON, Encoding.AUTO),
    SourceSignal.EVENTS: (Encoding.FLAT, Encoding.AUTO),
}
"""What telemetry a source can carry, and how it can be written."""

_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
"""Names that Kafka accepts."""

WRITTEN = tuple(encoding for encoding in Encoding if any(encoding in known for known in ENCODINGS.values()))
"""All of these ways to write."""


def read_source(text: str) -> Source:
    """Returns the source in `TOPIC=ENCODING` or `TOPIC=SIGNAL:ENCODING`.

    Without a signal the topic's name says it, up to a prefix that ends with a dot; a topic of another name carries
    events where the encoding is flat, otherwise traces.

    Raises:
        ConfigError: When the text has another form.
    """
    topic, _, written = text.partition("=")
    signal, colon, encoding = written.rpartition(":")
    if not topic or not encoding or (colon and not signal):
        raise ConfigError(
            f"--source {shown(text)}: write TOPIC=ENCODING or TOPIC=SIGNAL:ENCODING, for example "
            "otlp_spans=otlp_proto or app-logs=logs:otlp_json"
        )
    if not signal and encoding != Encoding.FLAT:
        signal = next((s for name, s in TOPICS.items() if f".{topic}".endswith(f".{name}")), "")
    return Source(topic=topic, encoding=encoding, signal=signal)


def source_text(source: Source) -> str:
    """Returns a source as `read_source` reads it, without the signal where that goes without saying."""
    short = f"{source.topic}={source.encoding}"
    return short if read_source(short) == source else f"{source.topic}={source.signal}:{source.encoding}"


def own_indicators(prefix: str) -> Source:
    """Returns the source that objectives hear of others by, composites of their components: our own output.

    Args:
        prefix: What the names of our topics begin with.
    """
    return Source(topic=f"{prefix}sli", encoding=Encoding.SLI, signal=SourceSignal.INDICATORS)


def telemetry(sources: Iterable[Source]) -> list[Source]:
    """Returns the sources that an operator names: all but our own indicators."""
    return [source for source in sources if source.is_telemetry]


def check_not_ours(sources: Sequence[Source], prefix: str) -> None:
    """Refuses sources that would be our own indicators.

    Raises:
        ConfigError: One is.
    """
    own = own_indicators(prefix)
    for source in sources:
        if source.topic == own.topic or own.signal == source.signal or own.encoding == source.encoding:
            raise ConfigError(
                f"the source {quoted(source_text(source))} cannot be named: the indicators in {own.topic} are read by "
                f"themselves while the files hold a Composite, an Inventory or `{LOST_BY}`; remove it"
            )


def check_sources(sources: Sequence[Source]) -> None:
    """Refuses sources of telemetry that cannot be read.

    Raises:
        ConfigError: There is none, one is listed twice or has a name that no topic can have, or a signal or an encoding
            is not known or does not fit.
    """
    if not sources:
        raise ConfigError("no source topic is configured, so nothing would ever be read; name at least one")
    topics: set[str] = set()
    for source in sources:
        if not _TOPIC.fullmatch(source.topic):
            raise ConfigError(
                f"the source {quoted(source.topic)} is not the name of a topic; write at most 249 letters, digits, "
                "dots, underscores and hyphens"
            )
        _check_known("signal", source.signal, tuple(ENCODINGS), source)
        _check_known("encoding", source.encoding, WRITTEN, source)
        fitting = ENCODINGS[SourceSignal(source.signal)]
        if source.encoding not in fitting:
            raise ConfigError(
                f"the source {quoted(source.topic)} carries {source.signal}, which are never {source.encoding}; "
                f"write {either(fitting)}, or the signal that it carries: TOPIC=SIGNAL:{source.encoding}"
            )
        if source.topic in topics:
            raise ConfigError(f"the source {quoted(source.topic)} is listed twice; remove one of the two")
        topics.add(source.topic)


def check_carriers(objectives: Sequence[Objective], sources: Sequence[Source]) -> None:
    """Refuses objectives that would never have data.

    Raises:
        ConfigError: No source carries what an objective counts.
    """
    carried = {source.signal for source in sources}
    for signal in SliSignal:
        names = [objective.name for objective in objectives if objective.signal == signal]
        if not names or carried.intersection(CARRIERS[signal]):
            continue
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        topic = next(topic for topic, carries in TOPICS.items() if carries in CARRIERS[signal])
        listed = " ".join(f"--source {source_text(source)}" for source in telemetry(sources))
        raise ConfigError(
            f"the objective {quoted(names[0])}{more} counts {signal}, which no source carries; name every topic that "
            f"is to be read, for example: {listed} --source {topic}={Encoding.OTLP_PROTO}"
        )


def _check_known(what: str, word: str, known: Sequence[str], source: Source) -> None:
    if word in known:
        return
    guess = nearest(word, known)
    fix = f"did you mean `{guess}`?" if guess else f"write {either(known)}"
    raise ConfigError(f"the {what} {quoted(word)} of source {quoted(source.topic)} is not known; {fix}")
