"""A network with the interface of a release and almost no arithmetic, for tests of everything around it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def tiny_network(path: Path, size: int, classes: int) -> Path:
    """Write ONNX: `images` [n, 3, s, s] to `logits` [n, classes] (mean colour times weights) and `embedding` [n, 3]."""
    weights = np.random.default_rng(0).normal(size=(3, classes)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images", "sides"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weights"], ["logits"]),
        helper.make_node("ReduceMean", ["images", "channel"], ["activation"], keepdims=0),
    ]
    constants = [
        helper.make_tensor("sides", TensorProto.INT64, [2], [2, 3]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [1]),
        helper.make_tensor("weights", TensorProto.FLOAT, [3, classes], weights.ravel()),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3]),
        helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["n", size, size]),
    ]
    graph = helper.make_graph(nodes, "tiny", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
