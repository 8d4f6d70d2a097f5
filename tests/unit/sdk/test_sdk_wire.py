import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from titrate_client import RequestError, wire

SENT = wire.inference("pills", [b"a"])


@given(st.binary(max_size=300), st.integers(-5, 400) | st.just("x"))
def test_an_answer_that_is_not_v2_is_an_error_and_nothing_else(content, length):
    with pytest.raises(RequestError):
        wire.predictions(SENT, {wire.HEADER_LENGTH: str(length)}, content)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_any_json_in_a_refusal_is_read(document):
    assert wire.refusal(418, json.dumps(document).encode()).status == 418


def test_a_problem_document_gives_code_and_detail():
    error = wire.refusal(503, b'{"code": "unready", "detail": "away"}')
    assert (error.status, error.code, error.detail) == (503, "unready", "away")
