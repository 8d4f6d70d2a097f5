"""A model small enough for every test that needs a real Triton: it names the strongest channel of an image."""

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from core.release import ModelSpec
from serving.triton.repository import write

LABELS = ["red", "green", "blue"]
RELEASE = "c0" * 32
PILLS = Path(__file__).parents[1] / "workloads" / "pills"
PREPROCESS, FEATURES = PILLS / "preprocess.py", PILLS / "features.py"


def write_repository(target, workload="pills", abstain_below=0.5, instances=1):
    """A Triton repository whose model answers `red` to a red image; its embedding are the means of the channels,
    its activation is how dark a place is (a map of 4 x 4)."""
    network = target / "network.onnx"
    target.mkdir(parents=True, exist_ok=True)
    onnx.save(_network(), network)
    spec = ModelSpec(
        workload=workload,
        labels=LABELS,
        image_size=32,
        precision="fp32",
        temperature=1.0,
        abstain_below=abstain_below,
        embedding_size=3,
        synthetic=True,
    )
    write(target / "models", spec, network, [PREPROCESS, FEATURES], instances=instances)
    return target / "models"


def _network():
    values = {
        "axes": np.array([2, 3], np.int64),
        "scale": np.array(3.0, np.float32),
        "channels": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["embedding"], keepdims=0),
        helper.make_node("Mul", ["embedding", "scale"], ["logits"]),
        helper.make_node("AveragePool", ["images"], ["coarse"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("ReduceMean", ["coarse", "channels"], ["light"], keepdims=0),
        helper.make_node("Neg", ["light"], ["dark"]),
        helper.make_node("Sigmoid", ["dark"], ["activation"]),
    ]
    one = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", one, ["n", 3, 32, 32])],
        [
            helper.make_tensor_value_info("logits", one, ["n", 3]),
            helper.make_tensor_value_info("embedding", one, ["n", 3]),
            helper.make_tensor_value_info("activation", one, ["n", 4, 4]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def picture(colour="red", size=48, kind="PNG"):
    """An encoded image of one colour; `(r, g, b)` or a name."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, kind)
    return file.getvalue()
