"""Clients over raw sockets, light beside the servers that share their cores: closed loops, and fixed rates.

A request is the bytes that go over the wire; an answer is its status, its seconds, and the arm that gave it.
"""

import asyncio
import io
import json
import struct
import time
from typing import NamedTuple

import numpy as np
from PIL import Image

LOOPBACK = "127.0.0.1"
V2_PATH, UPLOAD_PATH = b"/v2/models/pills/infer", b"/v1/predict"
OUTPUTS = ("label", "probability", "labels", "probabilities", "abstain", "release", "error")


class Answer(NamedTuple):
    """What came back."""

    status: int
    seconds: float
    """From when it was due, or sent in a closed loop."""
    arm: str
    again: bool
    """It said when to try again."""


def photograph(side: int) -> bytes:
    """A JPEG with the detail of a photograph: smooth noise."""
    small = np.random.default_rng(1).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side)).save(file, "JPEG", quality=85)
    return file.getvalue()


def http(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """One POST as it goes over the wire."""
    return b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n%s\r\n%s" % (path, len(body), headers, body)


def form(image: bytes) -> tuple[bytes, str]:
    """(body, content type) of a multipart upload to the gateway."""
    head = (
        b'--bnd\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    return head + image + b"\r\n--bnd--\r\n", "multipart/form-data; boundary=bnd"


def upload(image: bytes) -> bytes:
    """A multipart upload to the gateway."""
    body, kind = form(image)
    return http(UPLOAD_PATH, body, b"Content-Type: %s\r\n" % kind.encode())


def tensors(image: bytes) -> tuple[bytes, int]:
    """(body, length of its JSON) of a V2 request with binary tensors."""
    tensor = struct.pack("<I", len(image)) + image
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]
    size = {"binary_data_size": len(tensor)}
    inputs = [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": size}]
    header = json.dumps({"id": "bench", "inputs": inputs, "outputs": outputs}).encode()
    return header + tensor, len(header)


def v2(image: bytes) -> bytes:
    """V2 with binary tensors."""
    body, length = tensors(image)
    return http(V2_PATH, body, b"Inference-Header-Content-Length: %d\r\n" % length)


class Connection:
    """One keep-alive connection, opened when it is first used."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, due: float) -> Answer:
        """The answer; raises OSError or IncompleteReadError when the connection breaks."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(LOOPBACK, self._port)
        reader, writer = self._streams
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        took = time.monotonic() - due
        return Answer(int(first.split()[1]), took, headers.get("x-titrate-arm", ""), "retry-after" in headers)

    def close(self) -> None:
        """Free the socket."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


def closed(port: int, request: bytes, clients: int, seconds: float) -> list[Answer]:
    """The answers to clients that each ask again once answered."""

    async def client(until: float, found: list[Answer]) -> None:
        connection = Connection(port)
        while (now := time.monotonic()) < until:
            found.append(await connection.ask(request, now))
        connection.close()

    async def run() -> list[Answer]:
        found: list[Answer] = []
        until = time.monotonic() + seconds
        await asyncio.gather(*[client(until, found) for _ in range(clients)])
        return found

    return asyncio.run(run())


def fixed(port: int, request: bytes, rate: float, seconds: float, seed: int = 0) -> list[Answer]:
    """The answers to requests that come at `rate` a second, at random (Poisson), whether or not others are answered.

    Their seconds count from when they were due. Every connection stays open; at most as many as were ever in flight.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds))

    async def run() -> list[Answer]:
        idle: list[Connection] = []

        async def one(due: float) -> Answer:
            connection = idle.pop() if idle else Connection(port)
            answer = await connection.ask(request, due)
            idle.append(connection)
            return answer

        began, tasks = time.monotonic(), []
        for due in began + np.cumsum(gaps):
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(float(due))))
        answers = await asyncio.gather(*tasks)
        for connection in idle:
            connection.close()
        return list(answers)

    return asyncio.run(run())
