import io
import os
import pickle
import struct

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from core.errors import PermanentError
from core.scan import scan_folder


@pytest.fixture
def folder(tmp_path):
    """A folder with one file of every kind that a release holds."""
    (tmp_path / "1").mkdir()
    onnx.save(network(), tmp_path / "1" / "network.onnx")
    save_file({"weight": np.ones(4, np.float32)}, tmp_path / "model.safetensors")
    np.save(tmp_path / "embeddings.npy", np.ones((2, 3), np.float32))
    (tmp_path / "table.parquet").write_bytes(b"PAR1" + b"\0" * 20 + b"PAR1")
    for name, text in {
        "model.json": "{}",
        "config.pbtxt": 'name: "x"',
        "card.md": "# c",
        "1/model.py": "x = 1",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def network(domain="", op="Relu"):
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=opsets, ir_version=10)


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


def test_what_a_release_holds_is_accepted(folder):
    scan_folder(folder)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["x.json", "weights.safetensors", "model.py", "model.onnx", "anything"])
def test_a_pickle_is_found_whatever_its_name(folder, name, protocol):
    (folder / name).write_bytes(pickle.dumps({"a": Evil()}, protocol=protocol))
    with pytest.raises(PermanentError, match=rf"'{name}': a pickle: loading it runs code"):
        scan_folder(folder)


def test_a_numpy_array_of_objects_is_a_pickle(folder):
    np.save(folder / "objects.npy", np.array([Evil()], dtype=object))
    with pytest.raises(PermanentError, match=r"'objects\.npy': not a plain numpy array"):
        scan_folder(folder)


def test_an_operator_of_another_domain_is_refused(folder):
    onnx.save(network("ai.company", "Shell"), folder / "1" / "network.onnx")
    with pytest.raises(PermanentError, match=r"'1/network\.onnx': operators of \['ai\.company'\]"):
        scan_folder(folder)


def test_weights_in_another_file_are_refused(folder):
    model = network()
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.initializer.append(tensor)
    (folder / "1" / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(PermanentError, match=r"'1/network\.onnx': (keeps its weights in another file|not valid ONNX)"):
        scan_folder(folder)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08"])
def test_a_broken_network_is_refused(folder, content):
    (folder / "1" / "network.onnx").write_bytes(content)
    with pytest.raises(PermanentError, match=r"'1/network\.onnx': not valid ONNX"):
        scan_folder(folder)


@pytest.mark.parametrize(
    "content", [b"", b"12345678", struct.pack("<Q", 2) + b"{}" + b"hidden", struct.pack("<Q", 2**60) + b"{}"]
)
def test_broken_safetensors_are_refused(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(PermanentError, match=r"'model\.safetensors': "):
        scan_folder(folder)


@pytest.mark.parametrize("name", ["library.so", "archive.zip", "model.pt", "model.keras", "noname"])
def test_files_of_other_kinds_are_refused(folder, name):
    (folder / name).write_bytes(b"\x7fELF")
    with pytest.raises(PermanentError, match="are not allowed in a release"):
        scan_folder(folder)


def test_binary_that_calls_itself_text_is_refused(folder):
    (folder / "card.md").write_bytes(b"\x7fELF\0\0")
    with pytest.raises(PermanentError, match=r"'card\.md': not text"):
        scan_folder(folder)


def test_a_link_is_refused(folder):
    (folder / "secret.json").symlink_to("/etc/hostname")
    with pytest.raises(PermanentError, match=r"'secret\.json': a link"):
        scan_folder(folder)


def test_every_finding_is_named(folder):
    (folder / "a.so").write_bytes(b"1")
    (folder / "b.so").write_bytes(b"1")
    with pytest.raises(PermanentError, match=r"'a\.so'.*'b\.so'"):
        scan_folder(folder)


def test_half_of_a_parquet_file_is_refused(folder):
    (folder / "table.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(PermanentError, match="not Parquet"):
        scan_folder(folder)


def test_a_pickle_behind_a_numpy_header_is_not_read(folder):
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (folder / "embeddings.npy").write_bytes(buffer.getvalue()[:70])
    with pytest.raises(PermanentError, match="not a plain numpy array"):
        scan_folder(folder)
