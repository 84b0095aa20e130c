"""Identities of metric streams: a definition that may never change, and what it tells apart."""

from hypothesis import given
from hypothesis import strategies as st

from stream.core.otlp import identity
from stream.core.otlp.identity import Hash, Place, array, boolean, double, integer, mapping, murmur, of_attributes, text

KEYS = st.sampled_from([b"a", b"b", b"http.route"])
SCALARS = st.one_of(
    st.text(max_size=20).map(str.encode).map(text),
    st.booleans().map(boolean),
    st.integers(-(2**63), 2**63 - 1).map(integer),
    st.floats(allow_nan=False).map(double),
    st.binary(max_size=3).map(identity.binary),
    st.just(identity.NO_VALUE),
)


def attribute(value, key=b"k", place=Place.POINT):
    return of_attributes(place, [(key, value)])


def metric(**changes):
    fields = {"name": b"calls", "unit": b"1", "scope_name": b"lib", "scope_version": b"2"}
    return identity.of_metric(**{**fields, "kind": 1, "temporality": 2, "monotonic": True, **changes})


def test_murmur_gives_the_published_values():
    assert murmur(b"") == (0, 0)
    assert murmur(b"hello") == (0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19)
    fox = b"The quick brown fox jumps over the lazy dog"
    assert murmur(fox) == (0xE34BBC7BBC071B6C, 0x7A433CA9C49A9347)


def test_identities_stay_what_they_are():
    """Stored state is found by them: a change here is a new format."""
    assert attribute(text(b"/a")) == VECTORS["text"]
    assert attribute(integer(200)) == VECTORS["integer"]
    nested = mapping([(b"list", array([boolean(True), double(1.5), identity.NO_VALUE]))])
    assert attribute(nested, place=Place.RESOURCE) == VECTORS["nested"]
    assert metric() == VECTORS["metric"]


def test_values_of_different_types_differ():
    values = [
        text(b"1"), integer(1), double(1.0), boolean(True), identity.binary(b"1"), identity.NO_VALUE, text(b""),
        array([]), mapping([]), array([text(b"1")]), array([array([])]), mapping([(b"", text(b"1"))]),
    ]  # fmt: skip
    assert len({attribute(value) for value in values}) == len(values)


def test_every_nan_is_the_same_number():
    assert double(float("nan")) == double(-float("nan"))


def test_the_place_of_an_attribute_matters():
    assert len({attribute(text(b"x"), place=place) for place in (Place.RESOURCE, Place.SCOPE, Place.POINT)}) == 3


def test_every_part_of_a_metric_matters():
    others = ({"name": b"call", "unit": b"s1"}, {"unit": b"s"}, {"scope_name": b""}, {"scope_version": b""},
              {"kind": 2}, {"temporality": 1}, {"monotonic": False})  # fmt: skip
    assert len({metric(), *(metric(**change) for change in others)}) == len(others) + 1


@given(st.lists(st.tuples(KEYS, SCALARS), max_size=6), st.randoms())
def test_the_order_of_attributes_does_not_matter(pairs, chance):
    shuffled = list(pairs)
    chance.shuffle(shuffled)
    assert of_attributes(Place.POINT, pairs) == of_attributes(Place.POINT, shuffled)


def test_the_order_in_a_list_matters_and_that_in_a_map_does_not():
    a, b = text(b"a"), text(b"b")
    assert attribute(array([a, b])) != attribute(array([b, a]))
    assert attribute(mapping([(b"x", a), (b"y", b)])) == attribute(mapping([(b"y", b), (b"x", a)]))


@given(st.lists(st.tuples(KEYS, SCALARS), min_size=1, max_size=4))
def test_a_key_that_occurs_twice_counts_twice(pairs):
    assert of_attributes(Place.POINT, pairs) != of_attributes(Place.POINT, pairs + pairs[:1])


def test_what_is_nested_deeper_than_32_levels_is_not_looked_at():
    def nested(levels, leaf):
        value = leaf
        for _ in range(levels):
            value = array([value])
        return attribute(value)

    assert nested(32, text(b"a")) != nested(32, text(b"b"))
    assert nested(33, text(b"a")) == nested(33, text(b"b"))


def test_the_columns_are_signed():
    assert Hash(2**64 - 1, 5).signed() == (-1, 5)


VECTORS = {
    "text": (0x17840AEA9912EA9C, 0x53A7AE23CD88D83D),
    "integer": (0x4569F76788B19F6D, 0x454502451DEB6F18),
    "nested": (0xA628713A0CE6E600, 0x5D03BEBFFCEFC911),
    "metric": (0xC62631F10A0E1EC4, 0x6A98618A1BB487BC),
}
