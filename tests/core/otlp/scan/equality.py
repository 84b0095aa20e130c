"""Compares what two decoders made of the same messages."""

from stream.core.columns import Receipts, RejectReason, Rows
from stream.core.otlp import Decoded, Messages


def resolved(rows: Rows) -> dict[str, list[object]]:
    """Returns the columns with words in place of indices; each has the type that rows must have."""
    columns = {}
    for name, dtype in Rows.DTYPES.items():
        values = getattr(rows, name)
        assert values.dtype == dtype, name
        columns[name] = values.tolist()
        if name in Rows.DICTIONARIES:
            words = getattr(rows, Rows.DICTIONARIES[name])
            assert len(set(words)) == len(words), name
            columns[name] = [words[i] for i in columns[name]]
    return columns


def accounts(receipts: Receipts) -> list[tuple[object, ...]]:
    """Returns what the receipts say, without the sentences."""
    for name, dtype in Receipts.DTYPES.items():
        assert getattr(receipts, name).dtype == dtype, name
    return list(
        zip(
            *(getattr(receipts, name).tolist() for name in Receipts.DTYPES if name != "reason"),
            [receipts.reasons[i] for i in receipts.reason.tolist()],
            receipts.digests,
            [detail is None for detail in receipts.details],
            strict=True,
        )
    )


def assert_equal(actual: Decoded, expected: Decoded) -> None:
    """Asserts that rows and receipts are equal in every field but the wording of details."""
    ours, theirs = resolved(actual.rows), resolved(expected.rows)
    for name in Rows.DTYPES:
        assert ours[name] == theirs[name], name
    assert accounts(actual.receipts) == accounts(expected.receipts)


def without_too_deep(values, decode):
    """Returns the values that a plain decoder does not refuse as nested too deep: others may be read at any depth."""
    receipts = decode(Messages.of(values)).receipts
    deep = {
        int(receipts.first_offset[i])
        for i in receipts.rejected.nonzero()[0]
        if receipts.reasons[receipts.reason[i]] == RejectReason.TOO_DEEP
    }
    return [value for i, value in enumerate(values) if i not in deep]
