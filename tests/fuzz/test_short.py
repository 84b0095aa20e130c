"""A short run of the fuzzer, and proof that it finds what it is there to find."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stream.core.columns import RejectReason
from stream.core.otlp import Messages
from tests.fuzz import campaign, supervisor
from tests.fuzz.campaign import Options
from tests.fuzz.formats import READINGS, formats
from tests.fuzz.guard import FILLS, Guard

pytestmark = pytest.mark.usefixtures("kernels")

TRACES = "span.otlp_proto"


@pytest.mark.parametrize("name", formats())
def test_mutated_messages_of_every_format(name):
    tallies, finding = campaign.run(Options(formats={name: formats()[name]}, seed=20, seconds=600, messages=4000))
    assert finding is None
    tally = tallies[name]
    assert tally.messages >= 4000
    assert tally.compared >= 60
    assert tally.messages // 10 < tally.refused < tally.messages * 9 // 10  # the mutations neither spare nor ruin all


@pytest.mark.parametrize("name", formats())
def test_a_batch_is_a_function_of_seed_format_and_number(name):
    format_ = formats()[name]
    for number in (0, 19, 40):
        one, again, other = format_.batch(7, number), replace(format_).batch(7, number), format_.batch(8, number)
        assert one.messages.values == again.messages.values
        assert (one.reading, one.place) == (again.reading, again.place)
        assert one.messages.values != other.messages.values


@pytest.fixture
def hurry(monkeypatch):
    """What is found is not made much smaller."""
    monkeypatch.setattr(campaign, "SMALLER_S", 1.0)


def found(planted, name=TRACES, seconds=60):
    """What the fuzzer finds of a format whose compiled decoder is another one."""
    format_ = formats()[name]
    options = Options(formats={name: replace(format_, compiled=planted(format_.compiled))}, seed=1, seconds=seconds)
    _, finding = campaign.run(options)
    assert finding is not None
    return finding


@pytest.mark.usefixtures("hurry")
def test_a_lost_row_is_found():
    def planted(decode):
        def decode_and_lose(messages, reading):
            decoded = decode(messages, reading)
            lost = decoded.rows.flags & 1 != 0
            return replace(decoded, rows=decoded.rows.take(~lost)) if lost.any() else decoded

        return decode_and_lose

    assert "items are lost or invented" in found(planted).what


@pytest.mark.usefixtures("hurry")
def test_a_changed_value_is_found_by_the_plain_decoder():
    def planted(decode):
        def decode_and_change(messages, reading):
            decoded = decode(messages, reading)
            return replace(decoded, rows=replace(decoded.rows, end_ns=decoded.rows.end_ns & ~1))

        return decode_and_change

    assert "compiled and plain: rows.end_ns" in found(planted).what


def test_a_result_that_depends_on_its_neighbours_is_found(monkeypatch):
    def planted(decode):
        def decode_among(messages, reading):
            decoded = decode(messages, reading)
            is_last = np.isin(decoded.rows.offset, messages.offset[-1:])
            code = np.where(is_last, decoded.rows.code, decoded.rows.code % 7).astype("int16")
            return replace(decoded, rows=replace(decoded.rows, code=code)) if len(messages) > 1000 else decoded

        return decode_among

    monkeypatch.setattr(campaign, "smaller", lambda values, fails: values)  # it takes more than a thousand of them
    assert "among others: rows.code" in found(planted).what


@pytest.mark.usefixtures("hurry")
def test_a_refusal_without_a_reason_is_found():
    def planted(decode):
        def decode_silently(messages, reading):
            decoded = decode(messages, reading)
            if RejectReason.MALFORMED not in decoded.receipts.reasons:
                return decoded
            return replace(decoded, receipts=replace(decoded.receipts, reason=0 * decoded.receipts.reason))

        return decode_silently

    assert "without a reason" in found(planted).what


def test_memory_that_grows_is_found(monkeypatch):
    monkeypatch.setattr(campaign, "GROWTH_MAX_BYTES", 20 << 20)
    kept = []

    def planted(decode):
        def decode_and_keep(messages, reading):
            kept.append(np.ones(1 << 20))
            return decode(messages, reading)

        return decode_and_keep

    assert "the process grew" in found(planted).what


@pytest.mark.parametrize("at_the_end", [True, False])
@pytest.mark.parametrize("name", formats())
def test_messages_of_every_format_lie_beside_a_page_that_nobody_may_read(name, at_the_end):
    with Guard() as guard:
        for fill in FILLS[:2]:
            guard.place = replace(guard.place, at_the_end=at_the_end, fill=fill)
            assert len(formats()[name].compiled(Messages.of([b"{"]), READINGS[0]).receipts) == 1


PLANTED = """
import sys
from dataclasses import replace
from stream.config.kernel_cache import use_kernel_cache
use_kernel_cache()
import ctypes, time
from tests.fuzz import __main__ as fuzz, formats, guard

{planted}

known = {{name: replace(one, compiled=planted(one.compiled)) for name, one in formats.formats().items()}}
fuzz.formats = lambda: known
sys.exit(fuzz.main(sys.argv[1:]))
"""
READS_TOO_FAR = """
from stream.core.otlp.scan import flat

def planted(decode):
    def decode_and_read_on(messages, reading):
        data, ends, _ = flat._joined(messages.values)
        address = flat.address_of(data)
        for at, value in enumerate(messages.values):
            if value and value[-1:] == b'"':
                ctypes.string_at(address + len(data) - 8, 16)
        return decode(messages, reading)
    return decode_and_read_on
"""
NEVER_ENDS = """
from tests.fuzz import campaign
campaign.HANG_S = campaign.COMPILE_S = 10.0

def planted(decode):
    def decode_at_times(messages, reading):
        while any(value and value[-1:] == b'"' for value in messages.values):
            time.sleep(0.1)
        return decode(messages, reading)
    return decode_at_times
"""


def test_the_message_that_reads_too_far_is_named(tmp_path):
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(planted=READS_TOO_FAR))
    known, command = {"event.flat": formats()["event.flat"]}, [sys.executable, str(script)]
    campaign_of_it = [*command, "--unsupervised", "--formats", "event.flat", "--seconds", "60"]
    ended, finding = supervisor.supervised(campaign_of_it, known, seed=1)
    assert ended == 1
    assert finding is not None
    assert "SIGSEGV" in finding.what
    (value,) = finding.values
    assert value is not None
    assert value.endswith(b'"')
    again = campaign.written(finding, command)
    replayed = subprocess.run(again.split(), capture_output=True, check=False)
    assert replayed.returncode < 0


def test_a_decoder_that_never_ends_is_ended_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_guilty", lambda command, values: values)  # which would take as long again
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(planted=NEVER_ENDS))
    known, command = {"event.flat": formats()["event.flat"]}, [sys.executable, str(script)]
    campaign_of_it = [*command, "--unsupervised", "--formats", "event.flat", "--seconds", "60"]
    ended, finding = supervisor.supervised(campaign_of_it, known, seed=1)
    assert ended == 1
    assert finding is not None
    assert "took too long" in finding.what
    assert finding.format == "event.flat"


def test_what_fails_is_made_as_small_as_it_can_be():
    values: list[bytes | None] = [b"%d of these" % number for number in range(50)]
    values[33] = b"some text with a needle in it"

    def fails(values):
        return any(value is not None and b"needle" in value for value in values)

    assert campaign.smaller(values, fails) == [b"needle"]
