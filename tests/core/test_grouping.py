"""Numbers of groups, against numpy's own and against dictionaries; by a table and by sorting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.grouping import groups, numbered

sizes = st.sampled_from((1, 3, 40, 1 << 20, 1 << 40))


@given(st.data(), sizes)
def test_codes_are_numbered_in_their_order(data, size):
    code = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=30)), np.int64)
    number, values = numbered(code, size)
    expected, inverse = np.unique(code, return_inverse=True)
    assert (values.tolist(), number.tolist()) == (expected.tolist(), inverse.tolist())


@given(st.data(), st.lists(sizes, min_size=1, max_size=4))
def test_rows_have_one_number_where_all_columns_agree_in_their_order(data, spans):
    row = st.tuples(*(st.integers(-(span // 2), span // 2) for span in spans))
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    group, size = groups(*np.array(rows, np.int64).T)
    assert 0 <= group.min() <= group.max() < size <= len(rows)
    assert [rows[at] for at in np.argsort(group, kind="stable")] == sorted(rows)
    assert len(set(group.tolist())) == len(set(rows))
