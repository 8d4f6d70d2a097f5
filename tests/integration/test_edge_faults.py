"""Clients that are broken or mean harm, at a real Envoy in front of Triton and the gateway.

Each gets the right status, nothing crashes, nothing stays behind, and everybody else goes on being answered.
"""

import contextlib
import gzip
import json
import random
import resource
import socket
import struct
import subprocess
import threading
import zlib

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from serving.gateway import envoy, envoy_admin
from serving.gateway.app import create_app
from serving.gateway.edge import Arm, EdgeConfig
from serving.gateway.settings import Settings
from serving.triton.server import free_ports, stubs
from tests.colours import RELEASE, picture
from tests.conftest import served, wait_until
from titrate.predict import HEADER, decode, encode

PATH = "/v2/models/pills/infer"
IDLE = 10_000
GARBAGE = 500
GIGABYTE = 2**30
REFUSED = (BrokenPipeError, ConnectionResetError)


class Edge:
    """A running Envoy and what stands behind it."""

    def __init__(self, config, process, triton):
        self.config, self.process, self.triton = config, process, triton
        self.url = f"http://127.0.0.1:{config.port}"
        self.stubs = stubs(triton.pid)

    def connect(self):
        return contextlib.closing(socket.create_connection(("127.0.0.1", self.config.port), timeout=30))

    def stat(self, name):
        return int(envoy_admin.stats(self.config.admin_port, f"^http[.]edge[.]{name}$")[f"http.edge.{name}"])

    def ask(self, client, content=None):
        """(status, label, error) of one good request."""
        body, length = encode([content or picture("blue")])
        answer = client.post(PATH, content=body, headers={HEADER: str(length)})
        outputs = decode(answer.content, int(answer.headers[HEADER]))
        return answer.status_code, outputs["label"][0], outputs["error"][0]


@pytest.fixture(scope="module")
def edge(tmp_path_factory, triton):
    folder, ports = tmp_path_factory.mktemp("faults"), free_ports()
    with served(create_app(Settings(upstream=f"127.0.0.1:{ports.grpc}", workloads=("pills",)))) as gateway:
        places = {"http_port": triton.ports.http, "grpc_port": triton.ports.grpc}
        config = EdgeConfig(
            port=ports.http,
            internal_port=ports.grpc,
            admin_port=ports.metrics,
            access_log=str(folder / "access.log"),
            gateway_port=int(gateway.rsplit(":", 1)[1]),
            arms=(Arm(workload="pills", name="stable", release=RELEASE, weight=100, **places),),
        )
        envoy.write(config, folder)
        process = subprocess.Popen(envoy.command(folder, 1, 1), stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: envoy_admin.is_ready(ports.metrics))
            yield Edge(config, process, triton)
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def client(edge):
    with httpx.Client(base_url=edge.url, timeout=30, trust_env=False) as one:
        yield one


@pytest.fixture(autouse=True)
def _all_is_well_afterwards(edge):
    yield
    assert edge.process.poll() is None
    assert stubs(edge.triton.pid) == edge.stubs
    wait_until(lambda: edge.stat("downstream_rq_active") == 0)
    with httpx.Client(base_url=edge.url, timeout=30, trust_env=False) as client:
        assert edge.ask(client) == (200, "blue", "")


def head(length, path=PATH):
    return f"POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Length: {length}\r\n\r\n".encode()


def status_line(connection):
    """The answer's first line; empty when the connection was closed without one."""
    try:
        return connection.recv(4096).split(b"\r\n")[0]
    except REFUSED:
        return b""


def test_ten_thousand_idle_and_fifty_slow_connections_cost_nobody_an_answer(edge, client):
    """The slow ones send their headers a byte at a time: 408 after the time limit, 10 seconds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE, hard - 500)
    assert count >= 500, f"this process may open {hard} files only"
    try:
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(edge.connect()) for _ in range(50)]
            for connection in slow:
                connection.sendall(b"POST " + PATH.encode())
            idle = [stack.enter_context(edge.connect()) for _ in range(count)]
            wait_until(lambda: edge.stat("downstream_cx_active") >= len(idle) + len(slow))
            assert {edge.ask(client) for _ in range(200)} == {(200, "blue", "")}
            told = []
            while not told:  # until the limit strikes
                for connection in slow:
                    with contextlib.suppress(*REFUSED):
                        connection.sendall(b"/")
                assert edge.ask(client) == (200, "blue", "")
                told = [one for one in slow if _has_answer(one)]
            lines = {status_line(connection) for connection in slow}
            assert lines <= {b"HTTP/1.1 408 Request Timeout", b""}
            assert b"HTTP/1.1 408 Request Timeout" in lines
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: edge.stat("downstream_cx_active") <= 2)


def _has_answer(connection):
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK)) or True
    except BlockingIOError:
        return False
    except REFUSED:
        return True
    finally:
        connection.settimeout(30)


@pytest.mark.parametrize("sent", [0, 100, None])
def test_a_half_closed_connection_is_answered_or_closed_and_nothing_waits_for_it(edge, sent):
    """The client sends nothing, a part, or all of its body, and then no more for ever."""
    body, length = encode([picture("blue")])
    request = head(len(body)).replace(b"\r\n\r\n", f"\r\n{HEADER}: {length}\r\n\r\n".encode(), 1)
    with edge.connect() as connection:
        connection.sendall(request + body[:sent])
        connection.shutdown(socket.SHUT_WR)
        assert status_line(connection) in {b"", *({b"HTTP/1.1 200 OK"} if sent is None else ())}


@pytest.mark.parametrize("path", [PATH, "/v1/predict"])
def test_a_gigabyte_is_refused_and_not_read(edge, path):
    with edge.connect() as connection:
        connection.sendall(head(GIGABYTE, path))
        block, sent = b"x" * 2**20, 0
        with contextlib.suppress(*REFUSED):
            while sent < GIGABYTE and not _has_answer(connection):
                connection.sendall(block)
                sent += len(block)
        assert status_line(connection) in {b"HTTP/1.1 413 Payload Too Large", b""}
    assert sent < 64 * 2**20, "the limit and what the kernel keeps in between"


def test_a_gigabyte_in_chunks_is_413(edge):
    """Nothing says before how long it will be."""
    with edge.connect() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        block, sent = b"100000\r\n" + b"x" * 2**20 + b"\r\n", 0
        with contextlib.suppress(*REFUSED):
            while sent < GIGABYTE and not _has_answer(connection):
                connection.sendall(block)
                sent += len(block)
        assert status_line(connection) in {b"HTTP/1.1 413 Payload Too Large", b""}
    assert sent < 64 * 2**20


def bomb():
    """A PNG of a few MB that says it has 50,000 x 50,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(2**24))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_bomb_of_an_image_fails_alone(edge, client):
    status, label, error = edge.ask(client, bomb())
    assert (status, label) == (200, "")
    assert error.startswith("too_large: 50000 x 50000 pixels")
    answer = client.post("/v1/predict", files={"image": bomb()})
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (422, "bad_image", "too_large")


def test_garbage_is_refused_while_others_are_answered(edge, client):
    """Random bytes, and random bytes after a good first line, from four threads without pause."""
    lines = set()

    def shout(seed):
        noise = random.Random(seed)
        for number in range(GARBAGE // 4):
            with edge.connect() as connection, contextlib.suppress(*REFUSED):
                first = f"POST {PATH} HTTP/1.1\r\n".encode() if number % 2 else b""
                connection.sendall(first + noise.randbytes(300) + b"\r\n\r\n")
                lines.add(status_line(connection))

    threads = [threading.Thread(target=shout, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        asked = 0
        while any(thread.is_alive() for thread in threads) or asked < 100:
            assert edge.ask(client) == (200, "blue", "")
            asked += 1
    finally:
        for thread in threads:
            thread.join(60)
    assert b"HTTP/1.1 400 Bad Request" in lines
    assert lines <= {b"HTTP/1.1 400 Bad Request", b""}


BODY, LENGTH = encode([picture("blue")])


@st.composite
def broken(draw):
    """(body, length of its header) of a V2 request in which something was changed, cut, added or claimed."""
    changed = bytearray(BODY)
    for at in draw(st.lists(st.integers(0, len(BODY) - 1), max_size=4)):
        changed[at] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(BODY)))
    claimed = draw(st.one_of(st.just(LENGTH), st.integers(-(2**63), 2**63), st.integers(0, len(BODY) + 9)))
    return bytes(changed[:end]) + draw(st.binary(max_size=9)), claimed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=broken())
@example(changed=(b"", 0))
@example(changed=(b"{", 2**63))
@example(changed=(b"[" * 100_000, 100_000))
@example(changed=(BODY.replace(b'"name"', b'"nome"'), LENGTH))
@example(changed=(BODY.replace(b"BYTES", b"B\x80TES"), LENGTH))
def test_a_broken_binary_request_is_a_client_error_or_answered(edge, client, changed):
    body, claimed = changed
    answer = client.post(PATH, content=body, headers={HEADER: str(claimed)})
    assert answer.status_code in {200, 400}, answer.text
    if answer.status_code == 400:
        assert list(answer.json()) == ["error"]


LIMITLESS = [2**62, 2**63, 2**64, -1, 1.5, "x", None, [1], 2**31]


@pytest.mark.parametrize("dimension", LIMITLESS)
@pytest.mark.parametrize("name", ["shape", "sh\\u0061pe"])
def test_a_shape_that_kills_triton_is_refused_before_it(edge, client, dimension, name):
    shape = json.dumps([1, dimension])
    tensor = f'{{"name": "image", "datatype": "BYTES", "{name}" : {shape}, "data": ["x"]}}'
    answer = client.post(PATH, content=f'{{"inputs": [{tensor}]}}')
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [4294967296, 4294967296], "data": []}]}',
        '{"inputs": ' + "[" * 1_000_000,
        '{"x": ' + '{"a":' * 1_000_000,
    ],
)
def test_json_that_kills_triton_is_refused_before_it(edge, client, text):
    for headers in ({}, {HEADER: str(len(text))}):
        assert client.post(PATH, content=text, headers=headers).status_code == 400
    assert client.post(PATH, content=text, headers={HEADER: "1e1"}).status_code == 400
    assert (
        client.post(PATH, content=gzip.compress(text.encode()), headers={"content-encoding": "gzip"}).status_code == 415
    )


def test_brackets_and_escapes_in_values_are_no_structure(edge, client):
    body = {
        "id": '[{"\\' * 100,
        "inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 255]}],
    }
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == body["id"]


def grpc_infer(edge, message, compression=grpc.Compression.NoCompression):
    """The answer of ModelInfer to the bytes of a message; raises RpcError."""
    with grpc.insecure_channel(f"127.0.0.1:{edge.config.port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        return service_pb2.ModelInferResponse.FromString(call(message, timeout=30, compression=compression))


def message(shape, raw=bytes(192)):
    """A ModelInfer of `pixels`."""
    request = service_pb2.ModelInferRequest(model_name="pills", raw_input_contents=[raw])
    request.inputs.add(name="pixels", datatype="UINT8", shape=shape)
    return request.SerializeToString()


def unpacked(shape):
    """The same with each dimension as a field of its own, and the tensor after the content."""
    whole = service_pb2.ModelInferRequest.FromString(message(shape))
    (tensor,) = whole.inputs
    packed = tensor.SerializeToString()
    tensor.ClearField("shape")
    dims = b"".join(b"\x18" + packed_varint(one) for one in shape)
    inner = tensor.SerializeToString() + dims
    assert service_pb2.ModelInferRequest.InferInputTensor.FromString(inner).SerializeToString() == packed
    whole.ClearField("inputs")
    return whole.SerializeToString() + b"\x2a" + packed_varint(len(inner)) + inner


def packed_varint(number):
    found = bytearray()
    number %= 2**64
    while number >= 128:
        found.append(number % 128 | 128)
        number //= 128
    return bytes([*found, number])


@pytest.mark.parametrize("make", [message, unpacked])
@pytest.mark.parametrize("shape", [[1, 2**32, 2**32, 3], [1, 2**62, 4, 3], [1, -1, -1, 3], [2**31], [46_341, 46_341]])
def test_a_shape_that_kills_triton_over_grpc_is_refused_before_it(edge, shape, make):
    with pytest.raises(grpc.RpcError) as refused:
        grpc_infer(edge, make(shape))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "a shape is larger than any tensor here"


@pytest.mark.parametrize("make", [message, unpacked])
def test_a_good_grpc_request_passes_the_guard_however_it_is_written(edge, make):
    outputs = {output.name for output in grpc_infer(edge, make([1, 8, 8, 3])).outputs}
    assert "label" in outputs


def test_a_large_grpc_request_passes_the_guard(edge):
    assert grpc_infer(edge, message([1, 1024, 1024, 3], bytes(3 * 2**20))).outputs


def test_a_compressed_grpc_message_could_hide_a_shape_and_is_refused(edge):
    with pytest.raises(grpc.RpcError) as refused:
        grpc_infer(edge, message([1, 8, 8, 3]), grpc.Compression.Gzip)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 60), to=st.integers(0, 255), end=st.integers(0, 260))
@example(at=0, to=0x2B, end=260)
def test_a_broken_grpc_message_is_the_clients_mistake_or_answered(edge, at, to, end):
    changed = bytearray(message([1, 8, 8, 3]))
    changed[min(at, len(changed) - 1)] = to
    try:
        grpc_infer(edge, bytes(changed[:end]))
    except grpc.RpcError as error:
        wrong = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN}
        assert error.code() not in wrong, error
