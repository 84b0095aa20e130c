"""The ledger over all partitions: what was received is counted, late or refused."""

from hypothesis import given
from hypothesis import strategies as st

from stream.core.engine import Ledger, balance
from stream.core.engine.ledger import SourceLedger
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective, run

amounts = st.integers(0, 10**12)
accounts = st.builds(
    SourceLedger,
    topic=st.sampled_from(("a", "b")),
    topic_id=st.sampled_from(("x", "y")),
    partition=st.integers(0, 2),
    next_offset=amounts,
    received=amounts,
    counted=amounts,
    duplicate=amounts,
    late=amounts,
    replayed=amounts,
    lost_offsets=amounts,
    lost_until=amounts,
)


@given(st.lists(st.lists(accounts, max_size=4), max_size=4))
def test_a_balance_adds_up_what_the_partitions_say(partitions):
    ledgers = [Ledger(listed) for listed in partitions]
    balances = balance(ledgers)
    held = [account for ledger in ledgers for account in ledger.sources.values()]
    for name in ("received", "counted", "duplicate", "late", "replayed"):
        assert sum(getattr(b, name) for b in balances) == sum(getattr(a, name) for a in held)
    assert len(balances) == len({account.id for account in held})


@given(st.lists(accounts, max_size=4))
def test_ledgers_come_back(listed):
    ledger = Ledger(listed)
    ledger.sources.get("x/0", SourceLedger("a", "x", 0)).rejected["malformed"] += 3
    assert Ledger.load(ledger.dump()).dump() == ledger.dump()


def test_a_partition_that_never_heard_of_a_source_has_all_of_it_in_flight():
    ahead = Ledger([SourceLedger("a", "x", 0, next_offset=9, received=9)])
    (account,) = balance([ahead, Ledger()])
    assert account.in_flight == 9
    assert not account.is_equal


def test_one_item_too_few_is_unequal():
    for counted, equal in ((9, False), (10, True), (11, False)):
        (account,) = balance([Ledger([SourceLedger("a", "x", 0, received=10, counted=counted)])])
        assert account.is_equal is equal


def test_offsets_that_expired_unread_are_counted_once_however_often_they_are_reported():
    writer = LogWriter(bundle(objective()))
    writer.record([Event(T0_NS)], until_ns=T0_NS)
    writer.record(until_ns=T0_NS, lost=10)
    other = LogWriter(bundle(objective()), incarnation="other", first_offset=1, next_offset=1)
    other.record(until_ns=T0_NS, lost=15)
    engine, _ = run([*writer.log, *other.log])
    (account,) = balance([engine.ledger])
    assert account.lost_offsets == 15
    assert account.is_equal
