"""The frozen specification that the fold runs under: sources, settings, objectives. One bundle, one version.

The bundle travels as JSON in `qma.config` and inside the log; it is part of every checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any

import orjson

from stream.core.columns import Kind
from stream.core.errors import IncompatibleError
from stream.core.otlp import Limits
from stream.core.slo.alerts import Alerting
from stream.core.slo.calendar import Calendar
from stream.core.slo.composite import Composite
from stream.core.slo.declared import Adjustment, Mute
from stream.core.units import DAY_MINUTES, MINUTE_NS

BUNDLE_FORMAT = 2
BUNDLE_FORMATS_READ = (1, BUNDLE_FORMAT)

Input = tuple[str, str]
"""Service key and name of an objective."""

Wanted = tuple[tuple[str, tuple[str, ...]], ...]
"""Attributes and, of each, the values that are wanted, as text (`selection.as_text`); sorted by key."""

ANY_VALUE = "*"
"""Instead of a value: whatever it is. An empty text is none, as in Prometheus."""

NO_VALUE = "!*"
"""Instead of a value: that there is none."""

OTHER_COHORT = "__other__"
"""Name of the cohort of everything that is in none of the others."""


class SliSignal(StrEnum):
    """What an objective counts."""

    SPANS = "spans"
    """Spans, and flat events, which say the same."""
    LOGS = "logs"
    METRICS = "metrics"
    INDICATORS = "indicators"
    """Other objectives."""


class SourceSignal(StrEnum):
    """What a topic carries."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"
    EVENTS = "events"
    INDICATORS = "indicators"
    """Our own `qma.sli`, read back."""


class Encoding(StrEnum):
    """How the messages of a topic are written. `FLAT` is for events and for nothing else."""

    OTLP_PROTO = "otlp_proto"
    OTLP_JSON = "otlp_json"
    FLAT = "flat"
    AUTO = "auto"
    """Each message is looked at."""
    SLI = "sli"
    """Events of `qma.sli`: for indicators, and for nothing else."""


CARRIERS: dict[SliSignal, tuple[SourceSignal, ...]] = {
    SliSignal.SPANS: (SourceSignal.TRACES, SourceSignal.EVENTS),
    SliSignal.LOGS: (SourceSignal.LOGS,),
    SliSignal.METRICS: (SourceSignal.METRICS,),
    SliSignal.INDICATORS: (SourceSignal.INDICATORS,),
}
"""The signals of the sources that an objective can be counted from."""


class BudgetingMethod(StrEnum):
    """What the error budget is made of. Source: OpenSLO v1, `budgetingMethod`."""

    OCCURRENCES = "occurrences"
    """Events."""
    TIMESLICES = "timeslices"
    """Slices of time, each good or bad."""
    RATIO_TIMESLICES = "ratio-timeslices"
    """Slices of time, each as good as the ratio of its events: a busy slice weighs as much as a quiet one."""


class EmptySlice(StrEnum):
    """What a slice with too few events counts as."""

    GOOD = "good"
    BAD = "bad"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """How time is cut into slices, and when a slice is good.

    Args:
        minutes: Length of a slice; divides an hour.
        target: Least exact ratio of good events of a good slice; '' where each slice is as good as its ratio.
        empty: What a slice with fewer than `events_min` events counts as.
        events_min: Events that a slice needs to be judged.
    """

    minutes: int = 1
    target: str = ""
    empty: EmptySlice = EmptySlice.IGNORE
    events_min: int = 1


class Comparison(StrEnum):
    """How a value is compared with a threshold. Source: OpenSLO v1, `op`."""

    LTE = "lte"
    LT = "lt"
    GTE = "gte"
    GT = "gt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Good means that a number compares with a threshold so.

    Args:
        op: The comparison that is good.
        value: The threshold, exactly, as a decimal.
        attribute: Name of the attribute that holds the number; None: the value of the metric's point.
    """

    op: Comparison
    value: str
    attribute: str | None = None


class RawRatio(StrEnum):
    """What a metric says whose points are ratios themselves. Source: OpenSLO v1, `rawType`."""

    SUCCESS = "success"
    FAILURE = "failure"


_NO_ALERTING = Alerting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective of one SLO.

    Args:
        service: Service key.
        name: `slo` or, where an SLO has several objectives, `slo/objective`. Unique within a bundle.
        target: Exact target ratio as written in the file, for example `0.999`.
        window_minutes: Length of the rolling window.
        kinds: Span kinds that count as requests. Metrics: the kinds of their points, () for any. Logs: ().
        duration_lte_ns: Good means at most this long (spans; metrics: histograms of durations).
        sampling_none: The SLO declares that its producers do not sample, so unknown weights are 1.
        since: Version of the first configuration with this objective; None: the version of the bundle it is in.
        signal: What it counts.
        metric: Metrics: name of the metric.
        event: Logs: event name of the records that count; None: all records.
        attributes: Only what has one of the values of each of these counts.
        good_attributes: Good means one of the values of each of these; what lacks one of them is bad.
        severity_lt: Logs: good means a severity number below this; a record without one has 0.
        without: What has one of the values of any of these does not count, and is counted as excluded.
        bad_attributes: Bad means one of the values of each of these; everything else that counts is good.
        threshold: Good means a number within a threshold.
        good_metric: Metrics: what this metric adds is good, of all that `metric` adds.
        bad_metric: Metrics: what this metric adds is bad, of all that `metric` adds.
        raw: Metrics: each point is a ratio from 0 to 1 itself.
        versions: Only these versions count; () for all.
        cohort: Which part of an objective's events this one is about, as `attribute=value`; '' for all of them.
        cohort_of: Name of the objective that it is a part of; '' for none.
        method: What its budget is made of.
        slices: How time is cut, where the budget is made of slices.
        calendar: Name of its calendar in the bundle; None: its window rolls, and is `window_minutes` long.
        floor_per_hour: Events that there are every hour, at least; what is missing of them may have been bad.
        expected_from: Name of an objective of the same service that counts the same events from another source; what
            is missing of them may have been bad.
        expected_tolerance: Exact share of those that need not be there; '' for none.
        lost_by: Names of objectives, of any services, whose bad events are what was lost on the way here: each may
            have been a bad event of this one.
        certified: A certificate of the service claims it.
        composite: What it is made of, where `signal` says other objectives; None otherwise.
        finds: Name of the attribute whose values become cohorts as they arrive: this is one of these, or the cohort of
            everything else; '' for none.
        alerting: Its alerts. No part of the digest.

    At most one of `duration_lte_ns`, `good_attributes`, `severity_lt`, `bad_attributes`, `threshold`, `good_metric`,
    `bad_metric` and `raw` is given; none: good means that the event did not fail. Fields added after the first release
    are at the end and left out of what is written, and of the digest, where they have their defaults.
    """

    service: str
    name: str
    target: str
    window_minutes: int
    kinds: tuple[int, ...] = (Kind.SERVER, Kind.CONSUMER)
    duration_lte_ns: int | None = None
    sampling_none: bool = False
    since: int | None = None
    signal: SliSignal = SliSignal.SPANS
    metric: str | None = None
    event: str | None = None
    attributes: Wanted = ()
    good_attributes: Wanted = ()
    severity_lt: int | None = None
    without: Wanted = ()
    bad_attributes: Wanted = ()
    threshold: Threshold | None = None
    good_metric: str | None = None
    bad_metric: str | None = None
    raw: RawRatio | None = None
    versions: tuple[str, ...] = ()
    cohort: str = ""
    cohort_of: str = ""
    method: BudgetingMethod = BudgetingMethod.OCCURRENCES
    slices: Slices | None = None
    calendar: str | None = None
    floor_per_hour: int | None = None
    expected_from: str | None = None
    expected_tolerance: str = ""
    lost_by: tuple[str, ...] = ()
    certified: bool = True
    composite: Composite | None = None
    finds: str = ""
    alerting: Alerting = _NO_ALERTING
    _digest: str = field(default="", init=False, repr=False, compare=False)

    @property
    def target_ratio(self) -> Fraction:
        """The target, exactly."""
        return _fraction(self.target)

    @property
    def bad_ratio_max(self) -> Fraction:
        """1 − target, exactly: the share of events that may be bad."""
        return _complement(self.target)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the definition: an edited objective is another one, with a history of its own."""
        if not self._digest:
            body = {**self.dump(), "since": None}
            body.pop("alerting", None)
            object.__setattr__(self, "_digest", hashlib.sha256(orjson.dumps(body)).hexdigest())
        return self._digest

    @property
    def expected_share(self) -> Fraction:
        """Share of the events of `expected_from` that there must be, exactly."""
        return _complement(self.expected_tolerance or "0")

    @property
    def slice_minutes(self) -> int:
        """Length of what its budget is made of: of a slice, or a minute."""
        return 1 if self.slices is None else self.slices.minutes

    @property
    def unit(self) -> str:
        """What its budget is made of, in the plural."""
        if self.slices is not None:
            return "slices"
        return "events" if self.composite is None else "minutes"

    @property
    def is_certifiable(self) -> bool:
        """Whether what it counts are single events or slices, each good or bad: what the tests of certificates need."""
        whole = self.method is not BudgetingMethod.RATIO_TIMESLICES and self.raw is None
        return whole and self.good_metric is None and self.bad_metric is None

    @property
    def is_found(self) -> bool:
        """Whether it is a cohort that came with a value, and nobody declared it."""
        return bool(self.finds) and self.cohort != f"{self.finds}={OTHER_COHORT}"

    @property
    def cohort_value(self) -> str:
        """The value that a cohort which was found is of."""
        return self.cohort.removeprefix(f"{self.finds}=")

    @property
    def attribute_keys(self) -> set[str]:
        """Names of the attributes that have to be read to count it."""
        keys = {key for key, _ in (*self.attributes, *self.good_attributes, *self.bad_attributes, *self.without)}
        keys |= {self.threshold.attribute} if self.threshold and self.threshold.attribute else set()
        return keys | ({self.finds} if self.finds else set())

    def dump(self) -> dict[str, Any]:
        """Returns the objective as plain values, in an order that never changes; `load` gives back an equal one."""
        body = {name: value for name, default in _FIELDS.items() if (value := getattr(self, name)) != default}
        for name in ("threshold", "slices"):
            if name in body:
                body[name] = asdict(body[name])
        for name in ("composite", "alerting"):
            if name in body:
                body[name] = getattr(self, name).dump()
        return body

    @classmethod
    def load(cls, body: dict[str, Any]) -> Objective:
        """Returns the objective that `dump` wrote."""
        values = {**body, "kinds": tuple(body["kinds"]), "versions": tuple(body.get("versions", ()))}
        values["lost_by"] = tuple(body.get("lost_by", ()))
        for name, kind in (("signal", SliSignal), ("method", BudgetingMethod), ("raw", RawRatio)):
            if name in body:
                values[name] = kind(body[name])
        for name in ("attributes", "good_attributes", "bad_attributes", "without"):
            values[name] = tuple((key, tuple(wanted)) for key, wanted in body.get(name, ()))
        if "threshold" in body:
            values["threshold"] = Threshold(**{**body["threshold"], "op": Comparison(body["threshold"]["op"])})
        if "slices" in body:
            values["slices"] = Slices(**{**body["slices"], "empty": EmptySlice(body["slices"]["empty"])})
        if "composite" in body:
            values["composite"] = Composite.load(body["composite"])
        if "alerting" in body:
            values["alerting"] = Alerting.load(body["alerting"])
        return cls(**values)


_ALWAYS = object()
_FIRST_RELEASE = ("service", "name", "target", "window_minutes", "kinds", "duration_lte_ns", "sampling_none", "since")
_FIELDS = {f.name: _ALWAYS if f.name in _FIRST_RELEASE else f.default for f in fields(Objective) if f.init}
"""Of each field what is not written: the defaults of those that the digests of the first release know nothing of."""


@lru_cache(maxsize=100_000)
def _fraction(text: str) -> Fraction:
    return Fraction(text)


@lru_cache(maxsize=100_000)
def _complement(text: str) -> Fraction:
    return 1 - Fraction(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A topic that is read.

    Args:
        topic: Its name.
        encoding: One of `Encoding`.
        signal: One of `SourceSignal`; left empty it becomes what the first release read: `events` where the encoding
            is flat, otherwise `traces`.
    """

    topic: str
    encoding: str
    signal: str = ""

    def __post_init__(self) -> None:
        """Fills in the signal."""
        if not self.signal:
            signal = SourceSignal.EVENTS if self.encoding == Encoding.FLAT else SourceSignal.TRACES
            object.__setattr__(self, "signal", signal.value)

    @property
    def is_telemetry(self) -> bool:
        """Whether it moves the frontier. Our own indicators do not: they follow it."""
        return self.signal != SourceSignal.INDICATORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings that decisions depend on; they travel in the log.

    Args:
        allowed_lateness_ns: A minute closes this long after its end, in frontier time.
        catching_up_after_ns: When `now − frontier` exceeds this, nothing fires, resolves, issues or passes.
        services_max: Services per partition; beyond, the longest idle one without an objective makes room, and what
            finds none is counted without a service of its own.
        versions_max: Versions per service; beyond, the longest idle one makes room, and what finds none is counted for
            the version `__other__`.
        certificate_lifetime_minutes: Validity of a certificate.
        publish_sketches: Publish each service's t-digest of each closed minute.
        streams_max: Metric streams per partition whose last point is remembered; points of further ones are rejected.
        duplicate_minutes: Identical messages of one topic within this time count once; 0: each counts.
        limits: What a decoder reads at most.
        notifications_per_hour_max: Alerts of one service that are told within an hour; further ones are held back.
        cohorts_max: Cohorts that an objective finds; beyond, the longest idle one makes room, and what finds none is
            counted for the cohort `__other__`.
    """

    allowed_lateness_ns: int = MINUTE_NS
    catching_up_after_ns: int = 2 * MINUTE_NS
    services_max: int = 300
    versions_max: int = 100
    certificate_lifetime_minutes: int = 7 * DAY_MINUTES
    publish_sketches: bool = False
    streams_max: int = 100_000
    duplicate_minutes: int = 10
    limits: Limits = field(default_factory=Limits)
    notifications_per_hour_max: int = 20
    cohorts_max: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One version of the configuration of a pipeline. Its version is its offset in `qma.config`."""

    pipeline: str
    generation: str
    partitions: int
    sources: tuple[Source, ...]
    objectives: tuple[Objective, ...]
    settings: Settings = Settings()
    calendars: tuple[Calendar, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    mutes: tuple[Mute, ...] = ()

    @property
    def attributes(self) -> tuple[str, ...]:
        """The allow-list: every attribute that any objective names, sorted. No other is ever read."""
        return tuple(sorted({key for o in self.objectives for key in o.attribute_keys}))

    @property
    def asked(self) -> dict[Input, list[Objective]]:
        """The objectives whose indicators are asked for, each with those that ask: composites, and for losses."""
        keys = {objective.name: objective.service for objective in self.objectives}
        asked: dict[Input, list[Objective]] = {}
        for objective in self.objectives:
            made_of = objective.composite.inputs if objective.composite is not None else ()
            lost_by = ((keys[name], name) for name in objective.lost_by if name in keys)
            for name in (*made_of, *lost_by):
                asked.setdefault(name, []).append(objective)
        return asked

    def encode(self) -> bytes:
        """Returns the bundle as canonical JSON."""
        return orjson.dumps(
            {
                "format": BUNDLE_FORMAT,
                "pipeline": self.pipeline,
                "generation": self.generation,
                "partitions": self.partitions,
                "sources": self.sources,
                "objectives": [objective.dump() for objective in self.objectives],
                "settings": self.settings,
                "calendars": [calendar.dump() for calendar in self.calendars],
                "adjustments": [adjustment.dump() for adjustment in self.adjustments],
                "mutes": [mute.dump() for mute in self.mutes],
            },
            option=orjson.OPT_SORT_KEYS,
        )


def decode_bundle(data: bytes) -> Bundle:
    """Returns the bundle in `data`.

    Raises:
        IncompatibleError: When another format wrote it.
    """
    try:
        body: dict[str, Any] = orjson.loads(data)
        found = body["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise IncompatibleError(
            f"the configuration topic holds something else than a configuration: {error!r}"
        ) from error
    if found not in BUNDLE_FORMATS_READ:
        raise IncompatibleError(
            f"the configuration has format {found}, this version reads {BUNDLE_FORMAT} and older ones; run the version "
            "that wrote it"
        )
    return Bundle(
        pipeline=body["pipeline"],
        generation=body["generation"],
        partitions=body["partitions"],
        sources=tuple(Source(**source) for source in body["sources"]),
        objectives=tuple(Objective.load(objective) for objective in body["objectives"]),
        settings=_settings(body["settings"]),
        calendars=tuple(Calendar.load(calendar) for calendar in body.get("calendars", ())),
        adjustments=tuple(Adjustment.load(adjustment) for adjustment in body.get("adjustments", ())),
        mutes=tuple(Mute.load(mute) for mute in body.get("mutes", ())),
    )


def _settings(body: dict[str, Any]) -> Settings:
    return Settings(**{**body, "limits": Limits(**body.get("limits", {}))})
