"""Attribute filters: values are compared as text, and what is missing does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.otlp.attributes import canonical
from stream.core.slo.selection import as_text, having, having_any
from stream.core.slo.spec import ANY_VALUE, NO_VALUE


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (1, "1"), (1.0, "1"), (-0.0, "0"), (0.5, "0.5"), ("1.0", "1.0"), ("", "")],
)
def test_values_as_text(value, text):
    assert as_text(value) == text


values = st.sampled_from(("GET", "POST", "200", 200, 200.0, True, "true", 1, 0.5))
sets = st.lists(st.dictionaries(st.sampled_from("abc"), values), max_size=5)
filters = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.sampled_from(("GET", "200", "true", "1", "0.5")), min_size=1, max_size=3).map(tuple),
    max_size=3,
).map(lambda wanted: tuple(wanted.items()))


@given(sets, filters)
def test_a_set_fits_where_every_wanted_attribute_has_one_of_its_values(found, wanted):
    expected = [all(key in one and as_text(one[key]) in allowed for key, allowed in wanted) for one in found]
    assert having([canonical(one) for one in found], wanted).tolist() == expected


def test_a_row_without_attributes_fits_only_where_none_is_wanted():
    assert having(("",), ()).tolist() == [True]
    assert having(("",), (("a", ("1",)),)).tolist() == [False]


@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from(("x", "", "*", "!*", 0, False))),
    st.dictionaries(
        st.sampled_from("ab"), st.lists(st.sampled_from(("x", ANY_VALUE, NO_VALUE)), min_size=1), min_size=1
    ),
)
def test_a_star_is_any_value_and_its_negation_is_none_to_which_an_empty_text_belongs(found, wanted):
    def fits(key: str, values: list[str]) -> bool:
        text = as_text(found[key]) if key in found else ""
        return any({ANY_VALUE: text != "", NO_VALUE: text == ""}.get(value, text == value) for value in values)

    listed = tuple((key, tuple(values)) for key, values in wanted.items())
    each = [fits(key, values) for key, values in wanted.items()]
    assert having([canonical(found)], listed).tolist() == [all(each)]
    assert having_any([canonical(found)], listed).tolist() == [any(each)]
