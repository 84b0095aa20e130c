"""Where a pipeline stands, by its last checkpoints: how far each source is read, what is refused, what holds it up.

Pure: what was read of the topics in, a summary and findings out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream.cli.findings import Finding, Level, count, reason_fix
from stream.config.sources import source_text, telemetry
from stream.core.engine import Balance
from stream.core.engine.clocks import Clocks
from stream.core.slo.spec import Bundle
from stream.core.units import SECOND_NS

_SILENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """What is known of a pipeline from outside.

    Args:
        bundle: The configuration; None where there is none.
        clocks: The clocks of each partition of the log that has a checkpoint.
        partitions: Partitions of the log.
        balances: The ledger of each source partition.
        unread: Messages of source partitions that are in no checkpoint, by topic and partition.
        log_is_timed_by_broker: The log's times are the broker's, so that they can be compared with ours.
    """

    bundle: Bundle | None
    clocks: Sequence[Clocks] = ()
    partitions: int = 0
    balances: Sequence[Balance] = ()
    unread: tuple[tuple[str, int, int], ...] = ()
    log_is_timed_by_broker: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStanding:
    """How far one source partition is read.

    Args:
        until_ns: Time up to which it is read; None where it was never heard of.
        lag_s: Seconds from there to the log's now.
        unread: Messages that are in no checkpoint yet.
    """

    topic: str
    partition: int
    until_ns: int | None
    lag_s: float | None
    unread: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A pipeline's clocks and sources, the source that holds the frontier back first.

    Args:
        now_ns: The log's now; None without a checkpoint.
        frontier_ns: Time up to which every source is read; None while one was never heard of.
        rejected: Items refused since the beginning, by reason.
    """

    now_ns: int | None
    frontier_ns: int | None
    sources: tuple[SourceStanding, ...]
    received: int
    counted: int
    duplicate: int
    late: int
    lost_offsets: int
    rejected: dict[str, int]


def standing_of(checkpoints: Checkpoints) -> Standing:
    """Returns the summary of the checkpoints."""
    clocks, balances = checkpoints.clocks, checkpoints.balances
    rejected: Counter[str] = Counter()
    for entry in balances:
        rejected.update(entry.rejected)
    frontiers = [clock.frontier_ns for clock in clocks]
    known = [frontier for frontier in frontiers if frontier is not None]
    now_ns = max((clock.now_ns for clock in clocks), default=None)
    return Standing(
        now_ns=now_ns,
        frontier_ns=min(known) if known and len(known) == len(frontiers) else None,
        sources=tuple(_sources(checkpoints, now_ns)),
        received=sum(entry.received for entry in balances),
        counted=sum(entry.counted for entry in balances),
        duplicate=sum(entry.duplicate for entry in balances),
        late=sum(entry.late for entry in balances),
        lost_offsets=sum(entry.lost_offsets for entry in balances),
        rejected=dict(rejected.most_common()),
    )


def _sources(checkpoints: Checkpoints, now_ns: int | None) -> list[SourceStanding]:
    bundle = checkpoints.bundle
    topics = [source.topic for source in telemetry(bundle.sources)] if bundle is not None else []
    unread = {(topic, partition): messages for topic, partition, messages in checkpoints.unread}
    heard: dict[tuple[str, int], list[int | None]] = {at: [] for at in unread}
    for topic in topics:
        if not any(known == topic for known, _ in heard):
            heard[topic, 0] = []
    for clock in checkpoints.clocks:
        for topic, partition, time_ns in clock.laggards(topics):
            heard.setdefault((topic, partition), []).append(time_ns)
    # Every partition of the log hears of every source; the one furthest behind decides.
    until = {at: min(known) if (known := _all_known(times)) else None for at, times in heard.items()}
    order = sorted(until.items(), key=lambda entry: (entry[1] is not None, entry[1] or 0, entry[0]))
    return [
        SourceStanding(
            topic=topic,
            partition=partition,
            until_ns=time_ns,
            lag_s=max(0, now_ns - time_ns) / SECOND_NS if now_ns is not None and time_ns is not None else None,
            unread=unread.get((topic, partition), 0),
        )
        for (topic, partition), time_ns in order
    ]


def _all_known(times: Sequence[int | None]) -> list[int]:
    """Returns the times, or nothing where one is not known."""
    known = [time_ns for time_ns in times if time_ns is not None]
    return known if len(known) == len(times) else []


def standing_findings(checkpoints: Checkpoints, standing: Standing, *, wall_ns: int) -> list[Finding]:
    """Returns what holds the pipeline up, and what it refuses.

    Args:
        checkpoints: What was read.
        standing: Its summary.
        wall_ns: The time now.
    """
    if checkpoints.bundle is None:
        return [_change("nothing is configured, so nothing is read", "qma apply FILE…")]
    if standing.now_ns is None:
        return [_change("there is no checkpoint: no state worker has run yet", "qma worker")]
    return [
        *_silence(checkpoints, standing, wall_ns),
        *_frontier(checkpoints.bundle, standing),
        *_balance(checkpoints.balances),
        *_losses(standing),
    ]


def _silence(checkpoints: Checkpoints, standing: Standing, wall_ns: int) -> Iterator[Finding]:
    assert standing.now_ns is not None
    silent_s = (wall_ns - standing.now_ns) / SECOND_NS
    if checkpoints.log_is_timed_by_broker and silent_s > _SILENT_S:
        yield _change(f"the last checkpoint knows of nothing newer than {silent_s:,.0f} s ago", "qma worker")
    if len(checkpoints.clocks) < checkpoints.partitions:
        without = checkpoints.partitions - len(checkpoints.clocks)
        yield _change(f"{without} of {checkpoints.partitions} partitions of the log have no checkpoint", "qma worker")


def _frontier(bundle: Bundle, standing: Standing) -> Iterator[Finding]:
    """The sources that hold every window open."""
    behind_s = bundle.settings.catching_up_after_ns / SECOND_NS
    late = [source for source in standing.sources if source.lag_s is None or source.lag_s > behind_s]
    if not late:
        return
    first = late[0]
    more = f"; so do {len(late) - 1} more sources" if len(late) > 1 else ""
    if first.lag_s is None:
        says = f"{_name(first)} holds the frontier back: nothing was ever heard of it{more}"
    else:
        says = f"{_name(first)} holds the frontier back: it is read up to {first.lag_s:,.0f} s before now{more}"
    fix: tuple[str, ...] = (
        f"{first.unread:,} of its messages are in no checkpoint; read faster, up to one process a partition:",
        "qma worker --ingest N",
    )
    if not first.unread:
        others = [source_text(source) for source in telemetry(bundle.sources) if source.topic != first.topic]
        fix = (
            "qma worker: an ingest process reports it every second, also when nothing arrives",
            f"or, if nobody writes to it: qma apply FILE… {' '.join(f'--source {text}' for text in others)}",
        )
    yield Finding(level=Level.CHANGE, about="pipeline", says=says, fix=fix)


def _balance(balances: Sequence[Balance]) -> Iterator[Finding]:
    for entry in balances:
        if not entry.in_flight and not entry.is_equal:
            yield _change(
                f"the ledger of {entry.topic}/{entry.partition} does not balance", "qma ledger, and report it"
            )


def _losses(standing: Standing) -> Iterator[Finding]:
    for reason, items in standing.rejected.items():
        yield _advice(f"{count(items, 'item')} refused as {reason} so far", reason_fix(reason), "qma tail deadletter")
    if standing.late:
        yield _advice(
            f"{count(standing.late, 'item')} more than 6 hours late, so not counted",
            "look at the producers' clocks and at the Collector's sending_queue",
        )
    if standing.lost_offsets:
        yield _advice(
            f"{count(standing.lost_offsets, 'offset')} expired before being read",
            "kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config retention.ms=604800000",
        )


def _name(source: SourceStanding) -> str:
    return f"{source.topic}/{source.partition}"


def _change(says: str, *fix: str) -> Finding:
    return Finding(level=Level.CHANGE, about="pipeline", says=says, fix=fix)


def _advice(says: str, *fix: str) -> Finding:
    return Finding(level=Level.ADVICE, about="pipeline", says=says, fix=fix)
