"""`qma decode`: what the pipeline sees in one's own messages, before any objective selects from them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from functools import partial

from stream.cli.arguments import positive
from stream.cli.connection import add_arguments, connected
from stream.cli.decoded import NAMING_ATTRIBUTES, Line, Summary, lines
from stream.cli.payloads import Payload, from_files, from_topic
from stream.core.columns import RejectReason, Signal
from stream.core.errors import ConfigError
from stream.core.otlp import Decoded, Limits, Messages, Reading
from stream.core.otlp.decoders import DECODERS, Encoding, encodings, runs
from stream.ingest.columns import Columns, concat_columns
from stream.ingest.indicators import decode_indicator_events
from stream.kafka.batches import RefusedBatch

_SIGNALS = {"traces": Signal.SPAN, "metrics": Signal.METRIC, "logs": Signal.LOG, "events": Signal.EVENT}
_INDICATORS = "indicators"
_AUTO = "auto"

_BATCH_MESSAGES = 1024
_BATCH_BYTES = 4 << 20
_PLAIN_BYTES = 8 << 20
"""So much is read sooner by the plain decoders than the compiled ones can be made ready."""


_GENEROUS = Limits(attributes=1 << 16, value_bytes=1 << 20, message_bytes=1 << 30, items=1 << 22)
"""Somebody who looks at one message wants to see what is in it, however much it is."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="the bytes of one message; or .jsonl[.gz]: one a line, in base64 as `value`",
    )
    parser.add_argument("--topic", metavar="TOPIC", help="read this topic, as it is now, instead of files")
    parser.add_argument("--max", type=positive, metavar="N", help="of the topic, only the oldest N messages")
    parser.add_argument(
        "--signal",
        required=True,
        choices=[*_SIGNALS, _INDICATORS],
        help=f"what the messages are; {_INDICATORS}: our own output, as composites hear of it",
    )
    parser.add_argument(
        "--encoding",
        default=_AUTO,
        choices=[_AUTO, *Encoding],
        help="how they are written (default: auto, told from each message)",
    )
    parser.add_argument(
        "--attributes",
        default="",
        metavar="KEY,…",
        help="show these attributes too; of a resource where the item itself has none",
    )
    parser.add_argument(
        "--limits", action="store_true", help="refuse what a worker refuses by default for its size, its items too"
    )
    parser.add_argument("--summary", action="store_true", help="show totals by service or metric, in one JSON object")
    parser.add_argument(
        "--threshold-ms",
        type=_milliseconds,
        default=Decimal(100),
        metavar="MS",
        help="in the totals, count durations that are longer (default: 100)",
    )
    parser.set_defaults(run=partial(_run, parser))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if bool(arguments.files) == bool(arguments.topic):
        parser.error("name either files or a --topic")
    if arguments.max is not None and not arguments.topic:
        parser.error("--max goes with --topic")
    if arguments.signal == _INDICATORS and (arguments.encoding != _AUTO or arguments.summary):
        parser.error(f"--signal {_INDICATORS} has one encoding and no --summary")
    decoding = _Decoding(arguments)
    if arguments.topic:
        with connected(arguments) as connection:
            asyncio.run(_read_topic(decoding, connection.bootstrap, arguments))
    else:
        for payload in from_files(arguments.files):
            decoding.add(payload)
    decoding.finish()
    return 0


async def _read_topic(decoding: _Decoding, bootstrap: str, arguments: argparse.Namespace) -> None:
    async with contextlib.aclosing(from_topic(bootstrap, arguments.topic, arguments.max)) as payloads:
        async for payload in payloads:
            decoding.add(payload)


class _Decoding:
    """Decodes messages in batches as they come and prints rows, or totals at the end."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._signal = _SIGNALS.get(arguments.signal)
        self._encoding = _encoding(arguments)
        asked = {key for key in arguments.attributes.split(",") if key}
        self._summary: Summary | None = None
        if arguments.summary and self._signal is not None:
            self._summary = Summary(self._signal, arguments.threshold_ms * 1_000_000)
            asked.update(NAMING_ATTRIBUTES)
        limits = Limits() if arguments.limits else _GENEROUS
        self._reading = Reading(attributes=tuple(sorted(asked)), limits=limits)
        self._batch: list[Payload] = []
        self._batch_bytes = 0
        self._read_bytes = 0
        self._messages = 0
        self._items = 0
        self._foreign: Line | None = None

    def add(self, payload: Payload) -> None:
        """Takes one message, or a batch of them that could not be read."""
        if payload.refused is not None:
            self._decode()
            self._step_over(payload.at, payload.refused)
            return
        self._batch.append(payload)
        self._batch_bytes += len(payload.value or b"")
        if len(self._batch) == _BATCH_MESSAGES or self._batch_bytes >= _BATCH_BYTES:
            self._decode()

    def finish(self) -> None:
        """Decodes what is left, prints the totals and says what looks like a mistake."""
        self._decode()
        if self._summary is not None:
            self._summary.messages = self._messages
            _print(self._summary.as_object())
        sys.stdout.flush()
        if self._foreign is not None and not self._items:
            print(
                f"qma: nothing was decoded; the first refusal is at {self._foreign['at']}: {self._foreign['detail']}; "
                "name what the messages are with --signal, and how they are written with --encoding",
                file=sys.stderr,
            )

    def _step_over(self, at: str, batch: RefusedBatch) -> None:
        """Says which batch is left out and why, beside the rows and in the totals."""
        self._messages += batch.records
        reason = batch.reason.value
        print(f"qma: {at}: rejected as {reason}: {batch.detail}", file=sys.stderr)
        if self._summary is not None:
            self._summary.rejected[reason] = self._summary.rejected.get(reason, 0) + batch.records
        else:
            _print({"at": at, "refused": reason, "items": batch.records, "detail": batch.detail})

    def _decode(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._read_bytes += sum(len(payload.value or b"") for payload in batch)
        self._messages += len(batch)
        messages = Messages.of([payload.value for payload in batch])
        found: list[tuple[int, Line]] = []
        for decoded in self._decoded(messages):
            self._items += decoded.items
            if self._summary is not None:
                self._summary.add(decoded)
            if self._summary is None or not self._items:
                found.extend(lines(decoded, lambda offset: batch[offset].at))
        found.sort(key=lambda line: line[0])  # by message; rows before refusals
        for _, line in found:
            if self._summary is None:
                _print(line)
            if self._foreign is None and line.get("refused") in (RejectReason.WRONG_TYPE, RejectReason.MALFORMED):
                self._foreign = line

    def _decoded(self, messages: Messages) -> Iterator[Columns]:
        """Yields what the messages hold, in parts that are written alike."""
        if self._signal is None:
            yield decode_indicator_events(messages)
            return
        listed = runs(self._signal, messages) if self._encoding is None else [(self._encoding, messages)]
        for encoding, run in listed:
            yield concat_columns([self._telemetry(self._signal, encoding, run)])

    def _telemetry(self, signal: Signal, encoding: Encoding, messages: Messages) -> Decoded:
        """Returns what the messages hold.

        Both decoders see the same, but that the plain one of protobuf gives up on attributes nested deeper than 100
        levels.
        """
        decoder = DECODERS[signal, encoding]
        if self._read_bytes <= _PLAIN_BYTES:
            decoded = decoder.load_plain()(messages, self._reading)
            if encoding != Encoding.OTLP_PROTO or RejectReason.TOO_DEEP not in decoded.receipts.reasons:
                return decoded
        return decoder.load_compiled()(messages, self._reading)


def _print(line: Line) -> None:
    print(json.dumps(line, ensure_ascii=False, allow_nan=False))


def _encoding(arguments: argparse.Namespace) -> Encoding | None:
    """Returns the encoding that was asked for, None for `auto` and where there is one."""
    if arguments.encoding == _AUTO:
        return None
    possible = encodings(_SIGNALS[arguments.signal])
    if arguments.encoding not in possible:
        raise ConfigError(
            f"--signal {arguments.signal} has no encoding {arguments.encoding}; it has {', '.join(possible)}"
        )
    return Encoding(arguments.encoding)


def _milliseconds(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds; write for example 250")
    return value
