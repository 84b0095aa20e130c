"""The frozen specification that the fold runs under: sources, settings, objectives. One bundle, one version.

The bundle travels as JSON in `qma.config` and inside the log; it is part of every checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import orjson

from stream.core.columns import Kind
from stream.core.errors import IncompatibleError
from stream.core.units import DAY_MINUTES, MINUTE_NS

BUNDLE_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One objective of one SLO.

    Args:
        service: Service key.
        name: `slo` or, where an SLO has several objectives, `slo/objective`. Unique within a bundle.
        target: Exact target ratio as written in the file, for example `0.999`.
        window_minutes: Length of the rolling window.
        kinds: Span kinds that count as requests.
        duration_lte_ns: Good means at most this long; None: good means that the event did not fail.
        sampling_none: The SLO declares that its producers do not sample, so unknown weights are 1.
        since: Version of the first configuration with this objective; None: the version of the bundle it is in.
    """

    service: str
    name: str
    target: str
    window_minutes: int
    kinds: tuple[int, ...] = (Kind.SERVER, Kind.CONSUMER)
    duration_lte_ns: int | None = None
    sampling_none: bool = False
    since: int | None = None

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
        return _digest(replace(self, since=None) if self.since is not None else self)


@lru_cache(maxsize=100_000)
def _fraction(text: str) -> Fraction:
    return Fraction(text)


@lru_cache(maxsize=100_000)
def _complement(text: str) -> Fraction:
    return 1 - Fraction(text)


@lru_cache(maxsize=100_000)
def _digest(objective: Objective) -> str:
    return hashlib.sha256(orjson.dumps(objective, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A topic that is read. `encoding` is `otlp_proto` (spans) or `flat` (our flat JSON events)."""

    topic: str
    encoding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings that decisions depend on; they travel in the log.

    Args:
        allowed_lateness_ns: A minute closes this long after its end, in frontier time.
        catching_up_after_ns: When `now − frontier` exceeds this, nothing fires, resolves, issues or passes.
        services_max: Services per partition; rows of further ones are rejected.
        versions_max: Versions per service; rows of further ones are rejected.
        certificate_lifetime_minutes: Validity of a certificate.
        publish_sketches: Publish each service's t-digest of each closed minute.
    """

    allowed_lateness_ns: int = MINUTE_NS
    catching_up_after_ns: int = 2 * MINUTE_NS
    services_max: int = 300
    versions_max: int = 100
    certificate_lifetime_minutes: int = 7 * DAY_MINUTES
    publish_sketches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One version of the configuration of a pipeline. Its version is its offset in `qma.config`."""

    pipeline: str
    generation: str
    partitions: int
    sources: tuple[Source, ...]
    objectives: tuple[Objective, ...]
    settings: Settings = Settings()

    def encode(self) -> bytes:
        """Returns the bundle as canonical JSON."""
        return orjson.dumps(
            {
                "format": BUNDLE_FORMAT,
                "pipeline": self.pipeline,
                "generation": self.generation,
                "partitions": self.partitions,
                "sources": self.sources,
                "objectives": self.objectives,
                "settings": self.settings,
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
    if found != BUNDLE_FORMAT:
        raise IncompatibleError(
            f"the configuration has format {found}, this version reads {BUNDLE_FORMAT}; run the version that wrote it"
        )
    return Bundle(
        pipeline=body["pipeline"],
        generation=body["generation"],
        partitions=body["partitions"],
        sources=tuple(Source(**source) for source in body["sources"]),
        objectives=tuple(Objective(**{**o, "kinds": tuple(o["kinds"])}) for o in body["objectives"]),
        settings=Settings(**body["settings"]),
    )
