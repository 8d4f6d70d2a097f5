"""HTTP beneath the protocol: connections, framing, sizes. What HTTP demands is RFC 9110 and RFC 9112."""

import gzip
import json
from collections.abc import Iterator

from tests.conformance.case import Suite, expect
from tests.conformance.inference import answer
from tests.conformance.rest import Reply
from tests.conformance.specification import HTTP
from tests.conformance.subject import Subject, all_binary

suite = Suite()
JSON_TYPE = {"Content-Type": "application/json"}


def right(subject: Subject, reply: Reply) -> None:
    """The answer is that to the working request."""
    subject.json_view().check(answer(reply).tensors)


def error_or_closed(reply: Reply | None) -> None:
    """A client's error, or the connection closed without an answer."""
    expect(reply is None or 400 <= reply.status < 500, f"expected 4xx or a closed connection, got {reply}")


def parts(body: bytes, size: int) -> Iterator[bytes]:
    """A body in chunks."""
    return (body[i : i + size] for i in range(0, len(body), size))


@suite.case(HTTP, "twenty requests on one connection")
def keep_alive(subject: Subject) -> None:
    body, connection = subject.message().body(), subject.rest.connect()
    try:
        for _ in range(20):
            right(subject, subject.rest.send_on(connection, "POST", f"{subject.path}/infer", body, JSON_TYPE))
    finally:
        connection.close()


@suite.case(HTTP, "a refused request leaves the connection usable, or closes it")
def after_error(subject: Subject) -> None:
    connection = subject.rest.connect()
    try:
        subject.rest.send_on(connection, "POST", f"{subject.path}/infer", b'{"inputs": 1}', JSON_TYPE)
        body = subject.message().body()
        right(subject, subject.rest.send_on(connection, "POST", f"{subject.path}/infer", body, JSON_TYPE))
    finally:
        connection.close()


CHUNKS = {"one chunk": 1 << 30, "chunks of 100 bytes": 100, "chunks of 1 byte": 1}


@suite.each(HTTP, "a JSON body in {} is read (RFC 9112, 7.1)", CHUNKS)
def chunked(subject: Subject, size: int) -> None:
    body = parts(subject.message().body(), size)
    right(subject, subject.rest.send("POST", f"{subject.path}/infer", body, JSON_TYPE))


@suite.each(HTTP, "a binary body in {} is read (RFC 9112, 7.1)", CHUNKS)
def chunked_binary(subject: Subject, size: int) -> None:
    message = all_binary(subject.binary_message())
    reply = subject.rest.send("POST", f"{subject.path}/infer", parts(message.body(), size), message.headers())
    subject.binary_view().check(answer(reply).tensors)


@suite.case(HTTP, "a client that expects 100-continue is answered (RFC 9110, 10.1.1)")
def expect_continue(subject: Subject) -> None:
    right(subject, subject.post(subject.message(), {"Expect": "100-continue"}))


@suite.case(HTTP, "a JSON body without a content type is read or refused")
def no_content_type(subject: Subject) -> None:
    reply = subject.rest.send("POST", f"{subject.path}/infer", subject.message().body())
    if not 400 <= reply.status < 500:
        right(subject, reply)


@suite.case(HTTP, "a content type with parameters is that content type")
def content_type_parameters(subject: Subject) -> None:
    right(subject, subject.post(subject.message(), {"Content-Type": "application/json; charset=utf-8"}))


@suite.case(HTTP, "a gzip body is read, or refused with 4xx (RFC 9110, 8.4)")
def gzip_request(subject: Subject) -> None:
    body = gzip.compress(subject.message().body())
    reply = subject.rest.send("POST", f"{subject.path}/infer", body, JSON_TYPE | {"Content-Encoding": "gzip"})
    if not 400 <= reply.status < 500:
        right(subject, reply)


@suite.case(HTTP, "a body that says gzip and is not is refused")
def no_gzip(subject: Subject) -> None:
    reply = subject.post(subject.message(), {"Content-Encoding": "gzip"})
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")


@suite.each(HTTP, "an answer may be encoded as {} where the client accepts it", ("gzip", "deflate", "identity"))
def encoded_answer(subject: Subject, encoding: str) -> None:
    reply = subject.post(subject.message(), {"Accept-Encoding": encoding})
    used = reply.headers.get("content-encoding", "identity")
    expect(used in (encoding, "identity"), f"Content-Encoding {used!r}, accepted {encoding!r}")
    if used == "gzip":
        reply = reply._replace(body=gzip.decompress(reply.body))
    if used != "deflate":
        right(subject, reply)


METHODS = {"GET to infer": ("GET", "/infer"), "PUT to infer": ("PUT", "/infer"), "DELETE of the model": ("DELETE", "")}


@suite.each(HTTP, "{} is refused", METHODS)
def wrong_method(subject: Subject, asked: tuple[str, str]) -> None:
    method, path = asked
    reply = subject.rest.send(method, subject.path + path)
    expect(400 <= reply.status < 500 or reply.status == 501, f"expected 4xx or 501 (RFC 9110, 9.1), got {reply}")
    right(subject, subject.post(subject.message()))


@suite.case(HTTP, "16 MiB of white space before the object are read, or refused with 4xx")
def large_body(subject: Subject) -> None:
    body = b" " * (16 << 20) + subject.message().body()
    reply = subject.rest.send("POST", f"{subject.path}/infer", body, JSON_TYPE)
    if not 400 <= reply.status < 500:
        right(subject, reply)


@suite.case(HTTP, "a parameter of 1 MiB is taken, or refused with 4xx")
def large_parameter(subject: Subject) -> None:
    reply = subject.post(subject.message().changed(parameters={"conformance": "x" * (1 << 20)}))
    if not 400 <= reply.status < 500:
        right(subject, reply)


@suite.case(HTTP, "a thousand unknown inputs are refused")
def many_inputs(subject: Subject) -> None:
    inputs = subject.message().document["inputs"]
    many = [inputs[0] | {"name": f"no_such_input_{i}"} for i in range(1000)]
    reply = subject.post(subject.message().changed(inputs=inputs + many))
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")


def start(subject: Subject) -> list[str]:
    """Request line, host and content type of an inference request, for `Rest.raw`."""
    path = subject.path.replace("{", "%7B").replace("}", "%7D")
    return [f"POST {{prefix}}{path}/infer HTTP/1.1", "Host: {host}", "Content-Type: application/json"]


@suite.case(HTTP, "a declared length of 2 to the power of 62 is refused or the connection closed")
def declared_oversize(subject: Subject) -> None:
    error_or_closed(subject.rest.raw([*start(subject), f"Content-Length: {2**62}"], subject.message().body()))


LENGTHS = {
    "negative": "-1",
    "no number": "abc",
    "a list": "5, 6",
    "2 to the power of 64": str(2**64),
    "hexadecimal": "0x10",
}


@suite.each(HTTP, "a Content-Length that is {} is refused or the connection closed (RFC 9112, 6.3)", LENGTHS)
def wrong_length(subject: Subject, length: str) -> None:
    error_or_closed(subject.rest.raw([*start(subject), f"Content-Length: {length}"], subject.message().body()))


@suite.case(HTTP, "two different Content-Length are refused or the connection closed (RFC 9112, 6.3)")
def two_lengths(subject: Subject) -> None:
    body = subject.message().body()
    lines = [*start(subject), f"Content-Length: {len(body)}", "Content-Length: 5"]
    error_or_closed(subject.rest.raw(lines, body))


@suite.case(HTTP, "Content-Length beside chunked is refused, or chunked counts (RFC 9112, 6.3)")
def smuggled(subject: Subject) -> None:
    body = subject.message().body()
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    lines = [*start(subject), "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close"]
    reply = subject.rest.raw(lines, chunk)
    if reply is not None and not 400 <= reply.status < 500:
        right(subject, reply)


BAD_CHUNKS = {
    "a size that is no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-5\r\n{}\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "no end": b"2\r\n{}\r\n",
    "a size without its data": b"1000\r\n{}",
}


@suite.each(HTTP, "a chunk with {} is refused or the connection closed (RFC 9112, 7.1)", BAD_CHUNKS)
def bad_chunks(subject: Subject, body: bytes) -> None:
    error_or_closed(subject.rest.raw([*start(subject), "Transfer-Encoding: chunked"], body))


@suite.case(HTTP, "a body cut short is refused or the connection closed")
def cut_short(subject: Subject) -> None:
    body = subject.message().body()
    error_or_closed(subject.rest.raw([*start(subject), f"Content-Length: {len(body)}"], body[:-1]))


RAW = {
    "a request line of garbage": ["\x16\x03\x01\x02", "Host: {host}"],
    "no host": ["GET {prefix}/v2/health/live HTTP/1.1"],
    "an unknown HTTP version": ["GET {prefix}/v2/health/live HTTP/9.9", "Host: {host}"],
    "a header without a colon": ["GET {prefix}/v2/health/live HTTP/1.1", "Host: {host}", "no colon"],
    "white space before the colon": ["GET {prefix}/v2/health/live HTTP/1.1", "Host: {host}", "Name : x"],
}


@suite.each(HTTP, "{} is refused or the connection closed (RFC 9112, 2.3, 3, 3.2, 5)", RAW)
def raw(subject: Subject, lines: list[str]) -> None:
    reply = subject.rest.raw(lines)
    refused = reply is None or 400 <= reply.status < 500 or reply.status == 505
    expect(refused, f"expected 4xx or 505 or a closed connection, got {reply}")


HEADERS = {"a header of 1 MiB": ["X: " + "x" * (1 << 20)], "10,000 headers": [f"X-{i}: 1" for i in range(10_000)]}


@suite.each(HTTP, "{} is read, refused with 4xx or the connection closed (RFC 9110, 5.4)", HEADERS)
def large_headers(subject: Subject, lines: list[str]) -> None:
    reply = subject.rest.raw(["GET {prefix}/v2/health/live HTTP/1.1", "Host: {host}", *lines])
    expect(reply is None or reply.status < 500, f"expected 200, 4xx or a closed connection, got {reply}")


@suite.case(HTTP, "after all this the same request has the same answer")
def unharmed(subject: Subject) -> None:
    right(subject, subject.post(subject.message()))
    expect(json.loads(subject.rest.get("/v2").body), "no server metadata")
