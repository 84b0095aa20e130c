"""The rules that make an event a failure, as one table."""

import pytest

from stream.core.columns import NO_CODE, Kind, Status
from stream.core.otlp.semconv import GRPC_CODES, failed

OTHER_KINDS = (Kind.UNSPECIFIED, Kind.INTERNAL, Kind.PRODUCER, Kind.CONSUMER)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("code", [NO_CODE, 0, 14, 200, 404, 503])
@pytest.mark.parametrize("error_type", ["", "timeout"])
def test_a_status_that_is_set_decides_alone(kind, code, error_type):
    assert not failed(kind=kind, status=Status.OK, error_type=error_type, code=code)
    assert failed(kind=kind, status=Status.ERROR, error_type=error_type, code=code)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("code", [NO_CODE, 0, 200, 404])
def test_then_an_error_type_decides(kind, code):
    assert failed(kind=kind, status=Status.UNSET, error_type="timeout", code=code)


@pytest.mark.parametrize(
    ("code", "server", "client"),
    [
        (NO_CODE, False, False),
        (100, False, False),
        (200, False, False),
        (302, False, False),
        (399, False, False),
        (400, False, True),
        (404, False, True),
        (499, False, True),
        (500, True, True),
        (503, True, True),
        (599, True, True),
    ],
)
def test_then_the_http_code_decides(code, server, client):
    assert failed(kind=Kind.SERVER, status=Status.UNSET, error_type="", code=code) is server
    assert failed(kind=Kind.CLIENT, status=Status.UNSET, error_type="", code=code) is client
    for kind in OTHER_KINDS:
        assert failed(kind=kind, status=Status.UNSET, error_type="", code=code) is server


@pytest.mark.parametrize(("name", "code"), GRPC_CODES.items())
def test_or_the_grpc_code(name, code):
    server = name in {
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
    assert failed(kind=Kind.SERVER, status=Status.UNSET, error_type="", code=code) is server
    assert failed(kind=Kind.CLIENT, status=Status.UNSET, error_type="", code=code) is (name != "OK")
    for kind in OTHER_KINDS:
        assert failed(kind=kind, status=Status.UNSET, error_type="", code=code) is server


def test_grpc_codes_are_0_to_16():
    assert sorted(GRPC_CODES.values()) == list(range(17))
