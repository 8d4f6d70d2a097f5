import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError

from serving.gateway.multipart import boundary, parts
from serving.gateway.problems import Code, ProblemError

SOME = st.lists(st.binary(max_size=200) | st.sampled_from([b"\r\n", b"--", b"\r\n--b", b"\r\n--"]), max_size=6)


def encode(contents):
    """A body as httpx sends it: (Content-Type, bytes)."""
    request = httpx.Request("POST", "http://x", files=[("image", ("a.jpg", content)) for content in contents])
    return request.headers["content-type"], request.read()


@given(st.lists(SOME.map(b"".join), min_size=1, max_size=6))
def test_what_a_client_sends_comes_out_in_order(contents):
    kind, body = encode(contents)
    assert parts(body, boundary(kind), 6) == contents


def by_python_multipart(body, mark):
    found = []
    callbacks = {
        "on_part_begin": lambda: found.append(b""),
        "on_part_data": lambda data, start, end: found.append(found.pop() + data[start:end]),
    }
    parser = MultipartParser(mark, callbacks)
    parser.write(body)
    parser.finalize()
    return found


PIECES = st.lists(
    st.sampled_from([b"--b", b"\r\n", b"--", b"b", b"\r\n--b\r\n", b"\r\n--b--", b"h: v", b"\r\n\r\n", b"x"]),
    max_size=14,
)


@settings(max_examples=500)
@given(PIECES.map(lambda pieces: b"--b\r\n" + b"".join(pieces)))
@example(b"--b\r\nh: v\r\n--b\r\nh: v\r\n\r\nlost?\r\n--b--")
@example(b"--b\r\nh: v\r\n\r\n\r\n--b--")
def test_a_body_is_read_as_python_multipart_reads_it_or_refused(body):
    try:
        found = parts(body, b"b", 20)
    except ProblemError as problem:
        assert problem.code is Code.BAD_MULTIPART
        return
    try:
        expected = by_python_multipart(body, b"b")
    except MultipartParseError:
        return  # stricter than we are about header names and padding
    assert found == expected


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_garbage_is_refused(body):
    with pytest.raises(ProblemError):
        parts(b"x" + body, b"no-such-boundary", 5)


def test_a_cut_body_is_refused_at_every_byte():
    kind, body = encode([b"abc", b"def"])
    mark = boundary(kind)
    whole = len(body.rstrip(b"\r\n"))
    for end in range(whole):
        with pytest.raises(ProblemError):
            parts(body[:end], mark, 5)
    assert parts(body[:whole], mark, 5) == [b"abc", b"def"]


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\nh: v\r\n--b\r\nh: v\r\n\r\nX\r\n--b--",  # the first part would be lost
        b"--b\r\n--b--",
        b"--bb\r\n\r\nX\r\n--b--",
        b"--b \tx\r\n\r\nX\r\n--b--",
        b"X\r\n--b\r\n\r\nX\r\n--b--",
    ],
)
def test_a_part_without_its_empty_line_or_delimiter_is_refused(body):
    with pytest.raises(ProblemError) as refused:
        parts(body, b"b", 5)
    assert refused.value.code is Code.BAD_MULTIPART


def test_more_parts_than_allowed_are_refused():
    kind, body = encode([b"a"] * 4)
    assert len(parts(body, boundary(kind), 4)) == 4
    with pytest.raises(ProblemError) as refused:
        parts(body, boundary(kind), 3)
    assert refused.value.code is Code.TOO_MANY_IMAGES


@pytest.mark.parametrize(
    ("header", "mark"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a b;c"', b"a b;c"),
        ("multipart/form-data; boundary=abc; charset=utf-8", b"abc"),
    ],
)
def test_the_boundary_is_read_from_the_header(header, mark):
    assert boundary(header) == mark


@pytest.mark.parametrize("header", ["multipart/form-data", "multipart/form-data; boundary=", 'x; boundary="" '])
def test_a_header_without_a_boundary_is_refused(header):
    with pytest.raises(ProblemError):
        boundary(header)
