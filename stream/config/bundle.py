"""One version of the configuration, made from objectives and the version before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from stream.config.problems import quoted
from stream.config.sources import check_carriers, check_not_ours, check_sources, own_indicators
from stream.core.errors import ConfigError
from stream.core.slo.calendar import Calendar
from stream.core.slo.declared import Adjustment, Mute
from stream.core.slo.spec import Bundle, Objective, Settings, Source

PARTITIONS_MAX = 10_000

# They are parts of `transactional.id` and of group names, joined by `/`.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


def make_bundle(
    objectives: Sequence[Objective],
    *,
    previous: tuple[int, Bundle] | None,
    pipeline: str,
    generation: str,
    partitions: int,
    prefix: str,
    sources: Sequence[Source],
    settings: Settings,
    calendars: Sequence[Calendar] = (),
    adjustments: Sequence[Adjustment] = (),
    mutes: Sequence[Mute] = (),
) -> Bundle:
    """Returns the next bundle; an objective that did not change keeps the version since which it counts.

    Objectives are sorted by name, so the order of files does not change the bytes. An edited objective is
    another one and starts anew.

    Args:
        objectives: What the files say; `since` is None in all of them.
        previous: Version and content of the newest bundle in `qma.config`; None at the first.
        pipeline: Name of the pipeline.
        generation: Generation of the pipeline: what its log and state are bound to.
        partitions: Partitions of the shuffle log.
        prefix: What the names of our topics begin with.
        sources: Topics that telemetry is read from. Where objectives ask for indicators of others,
            these are read as well.
        settings: Settings that decisions depend on.
        calendars: Those that objectives name, computed for the present time.
        adjustments: Minutes that do not count against budgets.
        mutes: Times in which notifications are held back.

    Raises:
        ConfigError: When an argument is malformed, no source carries what an objective counts, or the pipeline,
            the generation or the partition count differs from the previous bundle's.
    """
    assert all(objective.since is None for objective in objectives), "since is decided here"
    assert len({objective.name for objective in objectives}) == len(objectives), "names are unique in a bundle"
    assert {o.calendar for o in objectives} <= {None, *(calendar.name for calendar in calendars)}, "calendars are there"
    _check_names(pipeline, generation, partitions)
    check_not_ours(sources, prefix)
    check_sources(sources)
    if any(objective.composite or objective.lost_by for objective in objectives):
        sources = (*sources, own_indicators(prefix))
    check_carriers(objectives, sources)
    since: dict[str, int] = {}
    if previous is not None:
        version, bundle = previous
        _check_unchanged(bundle, pipeline, generation, partitions)
        since = {o.digest: version if o.since is None else o.since for o in bundle.objectives}
    ordered = sorted(objectives, key=lambda objective: objective.name)
    return Bundle(
        pipeline=pipeline,
        generation=generation,
        partitions=partitions,
        sources=tuple(sources),
        objectives=tuple(replace(objective, since=since.get(objective.digest)) for objective in ordered),
        settings=settings,
        calendars=tuple(calendars),
        adjustments=tuple(adjustments),
        mutes=tuple(mutes),
    )


def _check_names(pipeline: str, generation: str, partitions: int) -> None:
    for what, name in (("pipeline", pipeline), ("generation", generation)):
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"the {what} {quoted(name)} is not a name; write 1 to 100 letters, digits, `.`, `_` or `-`"
            )
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ConfigError(f"{partitions} partitions cannot be; write a number from 1 to {PARTITIONS_MAX}")


def _check_unchanged(before: Bundle, pipeline: str, generation: str, partitions: int) -> None:
    pairs = (
        ("pipeline", before.pipeline, pipeline),
        ("generation", before.generation, generation),
        ("partition count", before.partitions, partitions),
    )
    changes = [f"the {what} from {old} to {new}" for what, old, new in pairs if old != new]
    if changes:
        raise ConfigError(
            f"this would change {' and '.join(changes)} of a pipeline that is already configured. "
            "Its log and state are bound to them: services would move to partitions without their counters. "
            "Keep the old values; or start fresh: set a new topic prefix (QMA_PREFIX) and a new generation, "
            "run `qma topics apply` and `qma apply`, start new workers, and stop the old ones when the new "
            "have caught up"
        )
