import struct

import numpy as np
import pytest

from core.errors import UserError
from core.home import Home
from titrate import predict as module
from titrate.predict import _content, batches, decode, encode, predict


def test_a_request_carries_the_images_as_they_are():
    body, length = encode([b"one", b""])
    header = body[:length].decode()
    assert '"shape": [2, 1]' in header
    assert '"binary_data_size": 11' in header
    assert body[length:] == b"\x03\0\0\0one\0\0\0\0"


def test_an_answer_is_read_by_name_and_type():
    tensors = [
        ("label", "BYTES", struct.pack("<II3s", 0, 3, b"red")),
        ("probability", "FP32", np.array([0.25, 1.0], "<f4").tobytes()),
        ("abstain", "BOOL", b"\1\0"),
    ]
    outputs = ", ".join(
        f'{{"name": "{name}", "datatype": "{kind}", "parameters": {{"binary_data_size": {len(data)}}}}}'
        for name, kind, data in tensors
    )
    header = f'{{"outputs": [{outputs}]}}'.encode()
    found = decode(header + b"".join(data for _, _, data in tensors), len(header))
    assert found == {"label": ["", "red"], "probability": [0.25, 1.0], "abstain": [True, False]}


def pairs(paths):
    return ((path, path.read_bytes()) for path in paths)


def test_requests_are_limited_in_images_and_bytes(tmp_path, monkeypatch):
    paths = [tmp_path / str(i) for i in range(20)]
    for path in paths:
        path.write_bytes(b"x" * 10)
    assert [len(batch) for batch in batches(pairs(paths))] == [8, 8, 4]
    monkeypatch.setattr(module, "BATCH_BYTES", 25)
    assert [len(batch) for batch in batches(pairs(paths[:5]))] == [2, 2, 1]
    paths[0].write_bytes(b"x" * 100)
    assert [len(batch) for batch in batches(pairs(paths[:3]))] == [1, 2], "a large one goes alone"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the image '.*nowhere.png': No such file"):
        _content(tmp_path / "nowhere.png")


def test_without_a_stack_the_way_out_is_told(tmp_path):
    with pytest.raises(UserError, match="titrate stack up"):
        predict(Home(tmp_path), [])
