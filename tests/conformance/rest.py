"""HTTP as it is on the wire: requests that a client library would refuse to send can be sent.

Only the standard library: a client that repairs, retries or normalises would hide what the server does.
"""

import http.client
import json
import math
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.conformance.case import Difference, NoAnswer, NotApplicable
from tests.conformance.wire import Json

MAX_REPLY = 1 << 30


class Reply(NamedTuple):
    """One HTTP response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body as strict JSON: UTF-8, and no NaN or Infinity (RFC 8259, sections 6 and 8.1)."""
        return strict_json(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:160].decode(errors='replace')!r}"


def strict_json(text: bytes) -> Json:
    """The value of a JSON text; raises Difference where it is not one."""
    try:
        return json.loads(text.decode("utf-8"), parse_constant=refuse_constant, parse_float=finite)
    except ValueError as error:
        raise Difference(f"the body is not JSON ({error}): {text[:160]!r}") from error


def refuse_constant(name: str) -> float:
    """NaN and the infinities are no JSON."""
    raise ValueError(f"{name} is not a JSON number")


def finite(text: str) -> float:
    """A JSON number as a float64; one that overflows is refused."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is no float64")
    return value


class Rest:
    """A server's address, with the headers (host, keys) that every request to it needs, and a limit in seconds."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float = 10.0) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or "localhost"
        self.port = parts.port or (443 if self.tls else 80)
        self.prefix = parts.path.rstrip("/")
        self.headers = dict(headers)
        self.timeout = timeout

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own, not yet opened."""
        if self.tls:
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout)
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on one connection; a body of several parts goes chunked. `path` starts with `/v2`."""
        connection = self.connect()
        try:
            return self.send_on(connection, method, path, body, headers)
        finally:
            connection.close()

    def send_on(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on an open connection, which stays open where the server allows it."""
        chunked = body is not None and not isinstance(body, bytes)
        sent = self.headers | dict(headers or {})
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # a server may answer before it has read everything
                connection.request(method, self.prefix + path, body, sent, encode_chunked=chunked)
            if connection.sock is None:
                raise ConnectionResetError("it was not even opened")
            return read(connection.getresponse())
        except TimeoutError as error:
            raise NoAnswer(f"no answer to {method} {path} within {self.timeout:.0f} s") from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise NoAnswer(f"{method} {path}: connection dropped ({error!r})") from error

    def get(self, path: str) -> Reply:
        """GET without a body."""
        return self.send("GET", path)

    def raw(self, lines: Sequence[str], body: bytes = b"") -> Reply | None:
        """Send exactly these header lines and body, then nothing more; None where the server closes without an answer.

        `{host}` in a line is the server's address, `{prefix}` the start of every path.
        """
        if self.tls:
            raise NotApplicable("a half-closed connection cannot be shown over TLS")
        head = [line.format(host=f"{self.host}:{self.port}", prefix=self.prefix) for line in lines]
        head += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "host"]
        try:
            with socket.create_connection((self.host, self.port), self.timeout) as connection:
                connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
                connection.shutdown(socket.SHUT_WR)
                return closed_or_answered(connection)
        except TimeoutError as error:
            raise NoAnswer(f"no answer and no close within {self.timeout:.0f} s") from error
        except (ConnectionError, OSError):
            return None


def read(response: http.client.HTTPResponse) -> Reply:
    """All of a response."""
    body = response.read(MAX_REPLY)
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def closed_or_answered(connection: socket.socket) -> Reply | None:
    """The one response on a connection, or None."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return read(response)
    except http.client.HTTPException:
        return None
    finally:
        response.close()
