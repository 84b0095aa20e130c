"""Which decoder reads a topic, and what repetitions are known by."""

import asyncio
import os
import sys

import numba
import numpy as np
import orjson
import pytest

from stream.config.kernel_cache import use_kernel_cache
from stream.core.columns import Signal
from stream.core.errors import IncompatibleError
from stream.core.otlp import Messages
from stream.core.otlp.decoders import Encoding
from stream.core.slo.spec import Bundle, Settings, Source
from stream.ingest import priming
from stream.ingest.decoding import Decoders, Decoding
from tests.core.otlp import captures
from tests.core.test_columns import plain_rows

SPANS, JSON, EVENTS = "otlp_spans", "otlp_spans_json", "telemetry.events"


def bundle(*sources, **settings):
    return Bundle(
        pipeline="p", generation="g", partitions=1, sources=sources, objectives=(), settings=Settings(**settings)
    )


def decoding(*sources, **settings):
    return Decoding(bundle(*sources, **settings), Decoders(compile=False))


def test_an_unknown_encoding_stops_the_ingest():
    with pytest.raises(IncompatibleError, match="avro"):
        decoding(Source(topic=SPANS, encoding="avro", signal="traces"))


def test_flat_is_no_encoding_of_traces():
    with pytest.raises(IncompatibleError, match="flat"):
        decoding(Source(topic=SPANS, encoding="flat", signal="traces"))


def test_topics_that_are_written_alike_are_decoded_together():
    made = decoding(
        Source(topic=SPANS, encoding="otlp_proto"),
        Source(topic="more", encoding="otlp_proto"),
        Source(topic=EVENTS, encoding="flat"),
    )
    assert made.of(SPANS) is made.of("more")
    assert made.of(SPANS) is not made.of(EVENTS)


def test_auto_reads_both_encodings_of_one_topic_in_order():
    binary, text = captures.values("tgen")[0], captures.json_values("tgen")[0]
    made = decoding(Source(topic=SPANS, encoding="auto", signal="traces"))
    together = made.of(SPANS)(Messages.of([binary, text, b"", binary]))
    alone = len(made.of(SPANS)(Messages.of([binary])).rows)
    assert alone > 1
    assert np.bincount(together.rows.offset, minlength=4).tolist() == [alone, alone, 0, alone]
    assert together.rows.offset.tolist() == sorted(together.rows.offset.tolist())
    assert together.receipts.first_offset.tolist() == [0, 1, 2, 3]


def prints(made, topic, *values):
    decoded = made.of(topic)(Messages.of(values, source=1, first_offset=5))
    return decoded.fingerprints.offset.tolist(), decoded.fingerprints.words(["other", topic])


def test_the_same_bytes_have_one_fingerprint_in_a_topic_and_another_elsewhere():
    made = decoding(Source(topic=SPANS, encoding="otlp_proto"), Source(topic="more", encoding="otlp_proto"))
    offsets, (one, two, again) = prints(made, SPANS, b"one", b"two", None, b"", b"one")
    assert offsets == [5, 6, 9]
    assert one == again != two
    assert prints(made, "more", b"one")[1] != [one]


def test_events_are_known_by_the_id_that_their_service_gave_them():
    made = decoding(Source(topic=EVENTS, encoding="flat"))
    event = {"service": "a", "time": 1_790_000_000_000_000_000}
    same = [{**event, "id": "x"}, event, {**event, "id": "x"}, {**event, "id": "y"}, event, {"id": "x"}]
    offsets, (x, again, y, of_b) = prints(
        made, EVENTS, *map(orjson.dumps, [*same, {**event, "id": "x", "service": "b"}])
    )
    assert offsets == [5, 7, 8, 11]
    assert x == again
    assert len({x, y, of_b}) == 3


def test_without_a_time_to_remember_there_are_no_fingerprints():
    made = decoding(Source(topic=SPANS, encoding="otlp_proto"), duplicate_minutes=0)
    assert prints(made, SPANS, b"one") == ([], [])


def test_compiled_decoders_take_over_in_the_background_with_the_same_rows():
    messages = Messages.of(captures.values("tgen"))

    async def run():
        decoders = Decoders()
        made = Decoding(bundle(Source(topic=SPANS, encoding="otlp_proto")), decoders)
        plain = decoders[Signal.SPAN, Encoding.OTLP_PROTO]
        before = made.of(SPANS)(messages)
        await decoders.settled()
        assert decoders[Signal.SPAN, Encoding.OTLP_PROTO] is not plain
        after = made.of(SPANS)(messages)
        await decoders.close()
        return before, after

    before, after = asyncio.run(asyncio.wait_for(run(), 240))
    assert plain_rows(before.rows) == plain_rows(after.rows)


@pytest.mark.parametrize("program", ["#!/bin/sh\nkill -9 $$", "#!/bin/sh\nexit 3", "not a program"])
def test_without_compiled_decoders_the_plain_ones_read_on(program, tmp_path, monkeypatch, caplog):
    compiler = tmp_path / "compiler"
    compiler.write_text(program)
    compiler.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(compiler))

    async def run():
        compiled: dict[str, bool] = {}
        decoders = Decoders(compiled=compiled)
        made = Decoding(bundle(Source(topic=SPANS, encoding="otlp_proto")), decoders)
        await decoders.settled()
        await decoders.close()
        return len(made.of(SPANS)(Messages.of(captures.values("tgen")[:1])).rows), compiled

    rows, compiled = asyncio.run(asyncio.wait_for(run(), 60))
    assert rows > 1
    assert compiled == {"SPAN/otlp_proto": False}
    assert "reads on with the plain decoders" in caplog.text


def test_a_compiler_that_hangs_ends_with_the_ingest(tmp_path, monkeypatch):
    compiler, begun = tmp_path / "compiler", tmp_path / "begun"
    compiler.write_text(f"#!/bin/sh\necho $$ > {begun}.new; mv {begun}.new {begun}; exec sleep 1000")
    compiler.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(compiler))

    async def run():
        decoders = Decoders()
        Decoding(bundle(Source(topic=SPANS, encoding="otlp_proto")), decoders)
        while not begun.exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.01)
        await decoders.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


def test_damaged_machine_code_is_made_again(tmp_path, monkeypatch):
    """What numba makes of a damaged file is an error of any kind; here it is raised while the file is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    damaged = use_kernel_cache() / "scan" / "kernel.nbc"
    damaged.parent.mkdir()
    damaged.touch()
    primed = []

    def prime(formats):
        if damaged.exists():
            raise EOFError("Ran out of input")
        primed.extend(formats)

    monkeypatch.setattr(priming, "prime", prime)
    priming.main(["SPAN/otlp_proto"])
    assert primed == [(Signal.SPAN, Encoding.OTLP_PROTO)]
