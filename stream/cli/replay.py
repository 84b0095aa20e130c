"""`qma replay`: folds the log again and says whether every published event is, byte for byte, what comes out."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from stream.cli.arguments import not_negative
from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.findings import count
from stream.config.exit_codes import FAIL, INCONCLUSIVE
from stream.config.problems import printable
from stream.core.errors import ConfigError
from stream.replay.comparison import Difference, FieldDifference, Kind, TopicResult
from stream.replay.reading import OUTPUTS, Topics
from stream.replay.replaying import PartitionReplay, replay, saved_offsets

_FIELDS_SHOWN = 5
_DIFFERENCES_SHOWN = 10
_VALUE_CHARACTERS = 60
_NAME_WIDTH = 12


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "--partition",
        type=not_negative,
        action="append",
        metavar="N",
        help="only this partition of the log; repeat it for several (default: all)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        replayed = asyncio.run(_replay(connection, arguments.partition))
    if arguments.json:
        print(orjson.dumps(as_object(replayed)).decode())
    else:
        for line in lines(replayed, connection.prefix):
            print(printable(line))
    return exit_code(replayed)


async def _replay(connection: Connection, wanted: Sequence[int] | None) -> list[PartitionReplay]:
    async with Topics(connection.bootstrap, connection.prefix) as topics:
        partitions = await topics.partitions(*OUTPUTS, "state")
        chosen = sorted(set(wanted)) if wanted else range(partitions)
        beyond = [number for number in chosen if number >= partitions]
        if beyond:
            raise ConfigError(
                f"--partition {beyond[0]}: {connection.prefix}shuffle has the partitions 0 to {partitions - 1}"
            )
        saved = await saved_offsets(topics, partitions)
        return [await replay(topics, number, saved_offset=saved[number]) for number in chosen]


def totals(replayed: Sequence[PartitionReplay]) -> dict[str, TopicResult]:
    """Returns what came of each topic over all partitions."""
    found = {name: TopicResult() for name in OUTPUTS}
    for partition in replayed:
        for name, result in partition.topics.items():
            found[name].add(result)
    return found


def exit_code(replayed: Sequence[PartitionReplay]) -> int:
    """Returns 1 where something differs, 2 where something could not be compared or there was nothing, else 0."""
    results = totals(replayed).values()
    if any(result.different for result in results):
        return FAIL
    if any(partition.why_not for partition in replayed) or any(result.beyond for result in results):
        return INCONCLUSIVE
    return 0 if any(result.equal for result in results) else INCONCLUSIVE


def as_object(replayed: Sequence[PartitionReplay]) -> dict[str, Any]:
    """Returns everything as plain values."""
    return {
        "verdict": ("equal", "different", "not known")[exit_code(replayed)],
        "topics": {name: asdict(result) for name, result in totals(replayed).items()},
        "partitions": [
            {
                "partition": partition.partition,
                "log_first_offset": partition.log.first,
                "log_next_offset": partition.log.end,
                "checkpoint_offset": partition.saved_offset if partition.saved_offset >= 0 else None,
                "not_compared": partition.why_not or None,
            }
            for partition in replayed
        ],
    }


def lines(replayed: Sequence[PartitionReplay], prefix: str) -> Iterator[str]:
    """Yields the result for people: the log, each topic, what could not be compared, and one sentence."""
    records = sum(partition.log.end - partition.log.first for partition in replayed if not partition.why_not)
    folded = [partition for partition in replayed if not partition.why_not]
    yield (
        f"{prefix}shuffle: {records:,} log records of {len(folded)} of {len(replayed)} "
        f"partition{'s' * (len(replayed) != 1)} folded from the first one on"
    )
    for name, result in totals(replayed).items():
        yield f"  {name:<{_NAME_WIDTH}} {_counts(result)}"
        shown = result.differences[:_DIFFERENCES_SHOWN]
        for difference in shown:
            yield from _difference_lines(difference)
        if result.different > len(shown):
            yield f"  {'':<{_NAME_WIDTH}} and {result.different - len(shown):,} more"
    for partition in replayed:
        if partition.why_not:
            yield f"not compared: {partition.why_not}"
    yield verdict(replayed)


def _counts(result: TopicResult) -> str:
    parts = [f"equal {result.equal:,}"]
    if result.different:
        parts.insert(0, f"DIFFERENT {result.different:,}")
    notes = (
        (result.compacted, "replaced by later ones, so no longer there"),
        (result.expired, "expired from the topic"),
        (result.unpublished, "not published yet: their log records are behind the last checkpoint"),
        (result.beyond, "live ones from behind the last log record that was folded, not compared"),
        (result.foreign, "records that are no events of this pipeline"),
    )
    return "; ".join([*parts, *(f"{number:,} {says}" for number, says in notes if number)])


def _difference_lines(difference: Difference) -> Iterator[str]:
    indent = " " * (_NAME_WIDTH + 3)
    where = f"{difference.id}, decided at log partition {difference.partition} offset {difference.offset:,}"
    match difference.kind:
        case Kind.MISSING:
            yield f"{indent}{where}: the log gives it, the topic does not have it"
        case Kind.EXTRA:
            yield f"{indent}{where}: the topic has it, the log does not give it"
        case Kind.DIFFERS:
            yield f"{indent}{where}:"
            for found in difference.fields[:_FIELDS_SHOWN]:
                yield f"{indent}  {field_line(found)}"
            if len(difference.fields) > _FIELDS_SHOWN:
                yield f"{indent}  and {len(difference.fields) - _FIELDS_SHOWN} more fields"


def field_line(found: FieldDifference) -> str:
    """Returns a difference of one field in words."""
    return f"{found.path}: published {_value(found.live)}, the log gives {_value(found.folded)}"


def _value(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"


def verdict(replayed: Sequence[PartitionReplay]) -> str:
    """Returns the result in one sentence."""
    results = totals(replayed).values()
    equal, different = sum(r.equal for r in results), sum(r.different for r in results)
    beyond = sum(r.beyond for r in results)
    if different:
        return (
            f"DIFFERENT: {count(different, 'event')} not as this version gives it from the log. What another version "
            "published may rightly differ: replay it with that one. Anything else is a fault; please report these lines"
        )
    if any(partition.why_not for partition in replayed):
        rest = f"the {equal:,} events of the others are equal" if equal else "nothing else was there to compare"
        return f"not known: what is named above could not be compared; {rest}"
    if beyond:
        return (
            f"not known: {beyond:,} events say that they come from behind the end of the log, as if it had been cut "
            f"or created anew; the {equal:,} before are equal"
        )
    if not equal:
        return "not known: nothing is published yet; is a `qma worker` running?"
    return f"equal: {count(equal, 'event')}, each of them byte for byte what the log gives"
