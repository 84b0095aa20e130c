"""What inputs of composites said: the latest revision holds, and what inventories need outlives the rest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.engine.heard import HEARD_MINUTES, Heard, Said
from tests.core.engine.indicator_writer import CHECKOUT, ORDERS, component, composite

NAME = (CHECKOUT, "availability")
OTHER = (ORDERS, "availability")


def asking(*services: str) -> Heard:
    heard = Heard()
    heard.ask([composite(*(component(service) for service in services))])
    return heard


@given(st.permutations([Said(revision, revision, 8, revision, False) for revision in (0, 1, 2, 5)] * 2))
def test_the_latest_revision_holds_in_whatever_order_and_however_often_it_comes(said):
    heard = asking(CHECKOUT)
    told = [heard.take(NAME, 7, one) for one in said]
    assert heard.of(NAME, 7) == Said(5, 5, 8, 5, False)
    assert sum(told) <= 4
    assert not heard.take(NAME, 7, Said(5, 9, 9, 9, True)), "the same revision again says nothing new"


minutes = st.dictionaries(
    st.integers(0, 60), st.tuples(st.integers(0, 1), st.booleans()).map(lambda s: Said(0, s[0], 8, 0, s[1]))
)


@settings(max_examples=200)
@given(minutes, st.lists(st.integers(0, 60), max_size=4).map(sorted), st.integers(0, 80), st.integers(1, 80))
def test_what_is_seen_does_not_depend_on_what_was_forgotten(said, floors, minute, within):
    """One never heard of before minute 0 is not known to have had no events then."""
    heard = asking(CHECKOUT, ORDERS)
    for at, one in said.items():
        heard.take(NAME, at, one)
    for floor in floors:
        heard.forget_before(floor)
        for name in heard.names():
            fresh = heard.dump(name)
            heard.load(name, fresh)
            assert heard.dump(name) == fresh
    if floors and minute < floors[-1]:
        return  # minutes that were forgotten can no longer change, and nobody asks
    told = [said.get(at) for at in range(minute + 1 - within, minute + 1)]
    if any(one is not None and one.events for one in told):
        assert heard.is_seen(NAME, minute, within) is True
    else:
        whole = all(one is not None and not one.gap for one in told)
        assert heard.is_seen(NAME, minute, within) is (False if whole else None)


def test_only_what_is_asked_for_is_held_and_only_for_as_long_as_it_may_change():
    heard = asking(CHECKOUT, ORDERS)
    for minute in range(1000):
        for name in (NAME, OTHER):
            heard.take(name, minute, Said(0, 1, 8, 0, False))
        heard.forget_before(minute + 1 - HEARD_MINUTES)
    assert len(heard.names()) == HEARD_MINUTES + 1
    assert heard.is_complete(999)
    heard.changed.clear()
    heard.ask([composite(component(ORDERS))])
    assert len(heard.changed) == HEARD_MINUTES + 1
    assert heard.of(NAME, 999) is None
    assert heard.of(OTHER, 999) is not None
    assert heard.is_complete(999)
    heard.ask([])
    assert heard.names() == []


def test_a_composite_is_no_input_of_another():
    heard = Heard()
    whole = composite(component(CHECKOUT), name="whole")
    heard.ask([whole, composite(component(whole.service, name="whole"), component(ORDERS), name="above")])
    assert set(heard.asking) == {NAME, OTHER}
