"""Messages that a producer sent twice: counted once, whatever offset, partition, record or checkpoint is between."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.engine import Engine
from stream.core.engine import duplicates as under_test
from stream.core.engine.duplicates import Duplicates
from stream.core.fingerprints import FINGERPRINT_BYTES, Fingerprints, fingerprints
from stream.core.log import decode_record, encode_record
from stream.core.units import MINUTE_NS
from tests.core.engine.log_writer import T0_NS, Event, Message, Reader, bundle

WORDS = st.binary(min_size=FINGERPRINT_BYTES, max_size=FINGERPRINT_BYTES)


def prints(contents, first_offset, source=0):
    n = len(contents)
    return fingerprints(np.full(n, source, "int16"), np.arange(first_offset, first_offset + n), contents)


class Log:
    """A partition that is fed records of messages with the given contents, one event each."""

    def __init__(self):
        self.engine = Engine(0)
        self.messages: list[Message] = []
        self.reader = Reader(bundle(), self.messages, "ingest")
        self.offset = 0

    def append(self, contents, now_ns=T0_NS):
        first = len(self.messages)
        self.messages += [Message(T0_NS, (Event(T0_NS),)) for _ in contents]
        record = replace(decode_record(self.reader.read(len(contents))), fingerprints=prints(contents, first))
        self.apply(record, now_ns)
        return record

    def apply(self, record, now_ns=T0_NS):
        self.engine.apply(self.offset, now_ns, encode_record(record))
        self.offset += 1

    @property
    def account(self):
        (account,) = self.engine.ledger.sources.values()
        return account.received, account.counted, account.duplicate


def test_a_repeated_message_counts_once_in_one_record_and_in_a_later_one():
    log = Log()
    log.append([b"a", b"b", b"a"])
    assert log.account == (3, 2, 1)
    log.append([b"b", b"c"], now_ns=T0_NS + 9 * MINUTE_NS)
    assert log.account == (5, 3, 2)


def test_after_ten_minutes_it_counts_again():
    log = Log()
    log.append([b"a"])
    log.append([b"a"], now_ns=T0_NS + 12 * MINUTE_NS)
    assert log.account == (2, 2, 0)


def test_a_copy_of_a_message_that_was_refused_counts():
    log = Log()
    log.append([b"a", b"b"], now_ns=T0_NS - 60 * MINUTE_NS)  # the events are an hour ahead
    (account,) = log.engine.ledger.sources.values()
    assert (log.account, account.rejected.total()) == ((2, 0, 0), 2)
    log.append([b"a", b"a"])
    assert log.account == (4, 1, 1)


def test_what_our_own_replay_repeats_is_replayed_and_no_duplicate():
    log = Log()
    record = log.append([b"a", b"b"])
    again = replace(record, incarnation="another", sequence=0)
    log.apply(again)
    (account,) = log.engine.ledger.sources.values()
    assert (account.received, account.counted, account.duplicate, account.replayed) == (2, 2, 0, 2)


def test_a_restored_fold_remembers_and_goes_on_with_the_same_bytes():
    through, saved = Log(), Log()
    chunks: dict[bytes, bytes] = {}
    for step in range(30):
        contents = [b"%d" % (step * k % 7) for k in range(1, 4)]
        for log in (through, saved):
            log.append(contents, now_ns=T0_NS + step * MINUTE_NS)
        checkpoint = saved.engine.checkpoint()
        gone = {key for key, value in checkpoint.chunks if value is None}
        chunks |= {key: value for key, value in checkpoint.chunks if value is not None}
        chunks = {key: value for key, value in chunks.items() if key not in gone}
        saved.engine = Engine.restore(0, {**chunks, checkpoint.manifest[0]: checkpoint.manifest[1]})
    through.engine.checkpoint()
    assert through.engine.snapshot() == saved.engine.snapshot()
    assert through.account == saved.account
    assert through.account[2] > 0
    assert sum(key.startswith(b"fingerprints/") for key in chunks) <= 11


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(WORDS, max_size=4)), max_size=12))
def test_memory_is_bounded_and_what_is_left_comes_back(steps):
    memory, minute = Duplicates(), 0
    with_cap = under_test.FINGERPRINTS_MAX
    under_test.FINGERPRINTS_MAX = 6
    try:
        for later, words in steps:
            minute += later
            memory.forget_before(minute - 2)
            memory.note(words, minute)
            assert len(memory) <= 6
            assert all(kept >= minute - 2 for kept in memory.names())
    finally:
        under_test.FINGERPRINTS_MAX = with_cap
    again = Duplicates()
    for kept in memory.names():
        again.load(kept, memory.dump(kept))
    assert [again.dump(kept) for kept in again.names()] == [memory.dump(kept) for kept in memory.names()]
    assert len(again) == len(memory)


def test_no_fingerprints_no_duplicates():
    assert Fingerprints.empty().words(["t"]) == []
