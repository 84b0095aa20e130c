"""`qma backfill`: counts what the source topics still hold from before an objective was known."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from stream.cli.backfilled import Outcome, Stage, as_object, exit_code, lines
from stream.cli.connection import Connection, add_arguments, connected
from stream.config.problems import nearest, printable
from stream.core.cells import HOUR_RING
from stream.core.engine.chunks import MANIFEST, clocks_of, closed_until_of, head_key, log_offset_of, states_of
from stream.core.engine.services import ObjectiveState
from stream.core.engine.windows import SETTLED_AFTER_MINUTES
from stream.core.errors import ConfigError
from stream.core.otlp import Decoded, Messages
from stream.core.service_key import partition_of
from stream.core.slo.spec import Bundle, Objective, SliSignal
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, SECOND_NS, minute_of
from stream.ingest.decoding import Decoders, Decoding
from stream.kafka.config_topic import read_bundle
from stream.kafka.state_reader import read_latest
from stream.replay.backfill import History, Job, histories, write
from stream.replay.backfill_count import Wanted, to_decode_under
from stream.replay.reading import Topics

_BOOKED_WITHIN_S = 30.0
_POLL_S = 0.5
_UNITS = {"m": 1, "h": HOUR_MINUTES, "d": DAY_MINUTES, "w": 7 * DAY_MINUTES}

_REFUSED = {
    SliSignal.INDICATORS: "it is made of what other objectives have published, and that stays as it was published; its "
    "history grows by itself",
}


@dataclass(frozen=True, slots=True)
class Since:
    """From when on: so many minutes before the newest closed one, or a minute."""

    minutes: int
    is_relative: bool

    def before(self, closed_until: int) -> int:
        """Returns the minute, given the first one that has not closed."""
        return closed_until - self.minutes if self.is_relative else self.minutes


def _since(text: str) -> Since:
    relative = re.fullmatch(r"([1-9][0-9]*)([mhdw])", text)
    if relative is not None:
        return Since(int(relative[1]) * _UNITS[relative[2]], True)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a length such as 12h, 7d or 2w nor a time such as 2026-03-01T00:00Z"
        ) from None
    moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return Since(minute_of(int(moment.timestamp()) * SECOND_NS), False)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "--objective",
        action="append",
        metavar="NAME",
        help="only this objective, as `qma status` names it; repeat it for several (default: all)",
    )
    parser.add_argument(
        "--since",
        type=_since,
        metavar="WHEN",
        help="from when on: a length such as 7d, or a time such as 2026-03-01T00:00Z (default: where the objective's "
        "window begins; nothing before that is counted)",
    )
    parser.add_argument("--dry-run", action="store_true", help="count, but write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object an objective")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        outcomes = asyncio.run(_backfill(connection, arguments))
    if arguments.json:
        for outcome in outcomes:
            print(orjson.dumps(as_object(outcome)).decode())
    else:
        for line in lines(outcomes):
            print(printable(line))
    return exit_code(outcomes, named=bool(arguments.objective))


async def _backfill(connection: Connection, arguments: argparse.Namespace) -> list[Outcome]:
    newest = await read_bundle(connection.bootstrap, connection.prefix)
    if newest is None:
        raise ConfigError("no configuration was applied yet: `qma apply` first, and let `qma worker` run")
    version, bundle = newest
    by_partition: dict[int, list[Objective]] = {}
    for objective in chosen(bundle, arguments.objective):
        by_partition.setdefault(partition_of(objective.service, bundle.partitions), []).append(objective)
    decoders = Decoders()
    decoding = Decoding(to_decode_under(bundle), decoders)

    def decode(topic: str, messages: Messages) -> Decoded:
        return decoding.of(topic)(messages)

    outcomes: list[Outcome] = []
    try:
        for partition, objectives in sorted(by_partition.items()):
            standing = await _standing(connection, partition, {objective.service for objective in objectives})
            job, refused = prepare(bundle, version, partition, objectives, standing, arguments.since)
            outcomes += refused
            if job.wanted:
                outcomes += await _fill(connection, job, version, decode, dry_run=arguments.dry_run)
    finally:
        await decoders.close()
    return sorted(outcomes, key=lambda outcome: (outcome.objective.service, outcome.objective.name))


def chosen(bundle: Bundle, names: Sequence[str] | None) -> list[Objective]:
    """Returns the objectives with these names; all where none is named.

    Raises:
        ConfigError: There is none of a name.
    """
    known = {objective.name: objective for objective in bundle.objectives}
    for name in names or ():
        if name not in known:
            meant = nearest(name, known)
            hint = f"did you mean `{meant}`?" if meant else "`qma status` shows those that there are"
            raise ConfigError(f"no objective {name!r} is configured; {hint}")
    return [objective for objective in bundle.objectives if not names or objective.name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the last checkpoint of a partition says.

    Args:
        log_offset: Of the checkpoint; -1 where there is none.
        version: Of the configuration in it.
        closed_until: The first minute that has not closed; None while none has.
        states: Of the services' objectives, by digest.
        gaps: Minutes [start, end) that were not read whole.
    """

    log_offset: int = -1
    version: int = -1
    closed_until: int | None = None
    states: Mapping[str, ObjectiveState]
    gaps: tuple[tuple[int, int], ...] = ()


async def _standing(connection: Connection, partition: int, services: set[str]) -> Standing:
    keys = {MANIFEST, *map(head_key, services)}
    latest = await read_latest(connection.bootstrap, f"{connection.prefix}state", [partition], keys)
    stored = latest[partition]
    if MANIFEST not in stored:
        return Standing(states={})
    version, closed_until = closed_until_of(stored[MANIFEST])
    states: dict[str, ObjectiveState] = {}
    for key in sorted(stored.keys() - {MANIFEST}):
        states |= states_of(stored[key])
    return Standing(
        log_offset=log_offset_of(stored[MANIFEST]),
        version=version,
        closed_until=closed_until,
        states=states,
        gaps=tuple(clocks_of(stored[MANIFEST]).gaps),
    )


def prepare(
    bundle: Bundle,
    version: int,
    partition: int,
    objectives: Sequence[Objective],
    standing: Standing,
    since: Since | None,
) -> tuple[Job, list[Outcome]]:
    """Returns what is to be counted, and the objectives of which nothing can be, with the reason."""
    wanted: list[Wanted] = []
    earliest: list[int] = []
    refused: list[Outcome] = []
    for objective in objectives:
        why_not = _why_not(objective, version, standing)
        own = standing.states.get(objective.digest)
        if not why_not:
            assert own is not None
            assert own.begins_at is not None
            assert own.start_minute is not None
            assert standing.closed_until is not None
            first = _earliest(bundle, objective, standing.closed_until, since)
            if first >= own.begins_at:
                why_not = "its history already reaches back to where it was asked for"
            else:
                one = Wanted(
                    objective=objective,
                    since=own.since,
                    begins_at=own.begins_at,
                    counted_from=own.start_minute,
                )
                wanted.append(one)
                earliest.append(first)
        if why_not:
            refused.append(Outcome(objective=objective, stage=Stage.NOTHING, why_not=why_not))
    job = Job(partition=partition, bundle=bundle, wanted=tuple(wanted), earliest=tuple(earliest), gaps=standing.gaps)
    return job, refused


def _why_not(objective: Objective, version: int, standing: Standing) -> str:
    if objective.signal in _REFUSED:
        return _REFUSED[objective.signal]
    if objective.finds:
        return "which cohorts there were then is not known, so neither is what was in none of them"
    own = standing.states.get(objective.digest)
    if standing.version < version or own is None:
        return "no checkpoint knows it yet; let `qma worker` run for a minute, then try again"
    if own.is_broken:
        return "older messages came behind the last backfill, so it no longer reaches to what was counted since"
    closed_until, length = standing.closed_until, objective.slice_minutes
    if own.begins_at is None or closed_until is None or -(-own.begins_at // length) * length >= closed_until:
        return "its own history has not begun yet; try again when a minute has closed"
    return ""


def _earliest(bundle: Bundle, objective: Objective, closed_until: int, since: Since | None) -> int:
    """Returns the first minute that may be counted: of the window, of the rings, or the one that was asked for.

    The old edge of a window lies on a full hour, and corrections sum windows that ended a few hours ago.
    """
    start = closed_until - objective.window_minutes
    if objective.calendar is not None:
        calendar = next(calendar for calendar in bundle.calendars if calendar.name == objective.calendar)
        period = calendar.period_at(closed_until - 1)
        start = closed_until if period is None else period.start_minute
    start = (start - SETTLED_AFTER_MINUTES) // HOUR_MINUTES * HOUR_MINUTES
    wanted = start if since is None else since.before(closed_until)
    return max(start, wanted, closed_until - HOUR_RING.retention_minutes + DAY_MINUTES)


async def _fill(
    connection: Connection, job: Job, version: int, decode: Callable[[str, Messages], Decoded], *, dry_run: bool
) -> list[Outcome]:
    async with (
        Topics(connection.bootstrap, connection.prefix) as log,
        Topics(connection.bootstrap, "", foreign=True) as sources,
    ):
        found = await histories(log, sources, job, decode)
        outcomes = [_outcome(history, Stage.DRY_RUN) for history in found]
        offset = None if dry_run else await write(log, job, version, found)
    if offset is None:
        return outcomes
    states = await _booked(connection, job, offset)
    return [_settled(outcome, states) for outcome in outcomes]


def _outcome(history: History, stage: Stage) -> Outcome:
    return Outcome(
        objective=history.wanted.objective,
        stage=Stage.NOTHING if history.why_not else stage,
        sections=tuple(history.sections),
        messages=history.messages,
        between=history.between,
        why_not=history.why_not,
    )


async def _booked(connection: Connection, job: Job, offset: int) -> Mapping[str, ObjectiveState] | None:
    """Returns the objectives' states in the first checkpoint behind a log record; None: there is none in time."""
    deadline_s = time.monotonic() + _BOOKED_WITHIN_S
    while True:
        standing = await _standing(connection, job.partition, {wanted.objective.service for wanted in job.wanted})
        if standing.log_offset >= offset:
            return standing.states
        if time.monotonic() >= deadline_s:
            return None
        await asyncio.sleep(_POLL_S)


def _settled(outcome: Outcome, states: Mapping[str, ObjectiveState] | None) -> Outcome:
    if not outcome.sections:
        return outcome
    if states is None:
        return replace(outcome, stage=Stage.WRITTEN)
    own = states.get(outcome.objective.digest)
    is_booked = own is not None and own.begins_at is not None and own.begins_at <= outcome.span[0]
    return replace(outcome, stage=Stage.BOOKED if is_booked else Stage.IGNORED)
