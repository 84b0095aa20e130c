"""Which decoder reads a topic: the compiled one of its signal and encoding as soon as there is one, until then the
plain one, with the same result. Compiling takes a process of its own; reading never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from stream.core.columns import Array, Signal
from stream.core.errors import IncompatibleError
from stream.core.fingerprints import fingerprints
from stream.core.otlp import Decoded, Messages, Reading, concat_decoded
from stream.core.otlp.decoders import DECODERS, Decode, Encoding, encodings, runs
from stream.core.rendering import event_source
from stream.core.slo.spec import Bundle, SourceSignal
from stream.core.slo.spec import Encoding as Declared
from stream.ingest.indicators import decode_indicator_events
from stream.ingest.priming import Format, names_of, prime

LOG = logging.getLogger(__name__)

_OFFSET_BITS = 48

SIGNALS: Mapping[str, Signal] = {
    SourceSignal.TRACES: Signal.SPAN,
    SourceSignal.METRICS: Signal.METRIC,
    SourceSignal.LOGS: Signal.LOG,
    SourceSignal.EVENTS: Signal.EVENT,
}


class Decoders:
    """The decoders of this process. They are all plain at first.

    Args:
        compile: Whether to go over to compiled ones.
        compiled: Told of each format that is wanted whether its decoder is compiled yet.
    """

    def __init__(self, *, compile: bool = True, compiled: dict[str, bool] | None = None) -> None:
        self._compile = compile
        self._compiled = {} if compiled is None else compiled
        self._decoders: dict[Format, Decode] = {}
        self._primed: set[Format] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __getitem__(self, format: Format) -> Decode:
        """Returns the best decoder that there is of a signal in an encoding."""
        decode = self._decoders.get(format)
        if decode is None:
            decode = self._decoders[format] = DECODERS[format].load_plain()
        return decode

    def want(self, formats: Iterable[Format]) -> None:
        """Begins to compile the decoders of these formats, in the background, unless it was begun before."""
        wanted = sorted(set(formats) - self._primed)
        self._compiled.update(dict.fromkeys(names_of(wanted), False))
        if wanted and self._compile:
            self._primed.update(wanted)
            task = asyncio.create_task(self._go_over(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Returns when everything begun is compiled and taken into use, or has failed to be."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Ends what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _go_over(self, formats: list[Format]) -> None:
        """Lets another process compile into the cache on disk, then loads from there."""
        try:
            problem = await _compile(formats)
            if problem is None:
                await asyncio.to_thread(prime, formats)
        except Exception as error:  # whatever it is, there are decoders that work
            problem = repr(error)
        if problem is not None:
            LOG.warning("reads on with the plain decoders: the compiled ones could not be made: %s", problem)
            return
        for format in formats:
            self._decoders[format] = DECODERS[format].load_compiled()
        self._compiled.update(dict.fromkeys(names_of(formats), True))
        LOG.info("decodes %s with machine code", ", ".join(names_of(formats)))


async def _compile(formats: list[Format]) -> str | None:
    """Compiles in another process; returns what went wrong."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stream.ingest.priming",
        *names_of(formats),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


class Decoding:
    """How the topics of one configuration are read.

    Args:
        bundle: The configuration.
        decoders: The decoders of this process; those that the configuration needs are compiled from now on.
    """

    def __init__(self, bundle: Bundle, decoders: Decoders) -> None:
        self.bundle = bundle
        reading = Reading(attributes=bundle.attributes, limits=bundle.settings.limits)
        alike: dict[tuple[Signal, str], AnyDecode] = {}
        self._decode: dict[str, Callable[[Messages], Decoded]] = {}
        for source in bundle.sources:
            if not source.is_telemetry:
                ours = event_source(bundle.pipeline, bundle.generation)
                self._decode[source.topic] = partial(decode_indicator_events, source=ours)
                continue
            key = SIGNALS[source.signal], source.encoding
            made = AnyDecode(*key, reading, decoders, fingerprints=bundle.settings.duplicate_minutes > 0)
            self._decode[source.topic] = alike.setdefault(key, made)
        decoders.want(format for decode in alike.values() for format in decode.formats)

    def of(self, topic: str) -> Callable[[Messages], Decoded]:
        """Returns the function that decodes messages of a topic: the same one for topics that are written alike."""
        return self._decode[topic]


class AnyDecode:
    """Decodes messages of one signal in one declared encoding.

    Args:
        signal: What they carry.
        encoding: How they are written; `auto`: each message is looked at.
        reading: What is read of them.
        decoders: The decoders of this process.
        fingerprints: Whether repeated messages are looked for.

    Raises:
        IncompatibleError: An encoding that this version does not know.
    """

    def __init__(
        self, signal: Signal, encoding: str, reading: Reading, decoders: Decoders, *, fingerprints: bool
    ) -> None:
        self._signal = signal
        known = encodings(signal)
        if encoding not in (*known, Declared.AUTO):
            raise IncompatibleError(
                f"the configuration declares a topic of {signal.name.lower()}s with encoding {encoding!r}; this "
                f"version reads {', '.join(known)} and {Declared.AUTO}: upgrade it, or declare another encoding"
            )
        self._encoding = None if encoding == Declared.AUTO else Encoding(encoding)
        self._reading = replace(reading, ids=fingerprints and signal == Signal.EVENT)
        self._decoders = decoders
        self._fingerprints = fingerprints

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that the messages may have."""
        known = encodings(self._signal) if self._encoding is None else (self._encoding,)
        return tuple((self._signal, encoding) for encoding in known)

    def __call__(self, messages: Messages) -> Decoded:
        """Returns the columns of the messages."""
        if self._signal == Signal.EVENT:
            return self._events(messages)
        listed = runs(self._signal, messages) if self._encoding is None else [(self._encoding, messages)]
        decoded = concat_decoded(
            [self._decoders[self._signal, encoding](run, self._reading) for encoding, run in listed]
        )
        return self._fingerprinted(decoded, messages, messages.values)

    def _events(self, messages: Messages) -> Decoded:
        """Equal events are different ones, unless their service gave them one `id`."""
        decoded = self._decoders[self._signal, Encoding.FLAT](messages, self._reading)
        return self._fingerprinted(decoded, messages, _known_by(messages, decoded))

    def _fingerprinted(self, decoded: Decoded, messages: Messages, contents: Sequence[bytes | None]) -> Decoded:
        """Returns the columns with the fingerprints of the messages that have a content to be known by."""
        if not self._fingerprints or not contents:
            return decoded
        known = [content for content in contents if content]
        at = np.array([bool(content) for content in contents], bool)
        return replace(decoded, fingerprints=fingerprints(messages.source[at], messages.offset[at], known))


def _known_by(messages: Messages, decoded: Decoded) -> list[bytes | None]:
    """Returns what each event is known by: its service and its `id`, which is unique within the service alone.

    None where it has no `id` or was refused; nothing where nobody asked or no event has one.
    """
    if not any(decoded.ids):
        return []
    rows = decoded.rows
    was_read = np.isin(_message_keys(messages.source, messages.offset), _message_keys(rows.source, rows.offset))
    assert int(was_read.sum()) == len(rows), "an event makes one row"
    service = np.full(len(messages), -1, "int64")
    service[was_read] = rows.service
    names = [name.encode() + b"\0" for name in rows.services]
    found = zip(service.tolist(), decoded.ids, strict=True)
    return [names[number] + called if called and number >= 0 else None for number, called in found]


def _message_keys(source: Array, offset: Array) -> Array:
    return (source.astype("int64") << _OFFSET_BITS) | offset
