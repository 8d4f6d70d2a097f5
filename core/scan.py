"""No file of a release may run code when it is loaded, or reach outside its folder (R03).

Allowed are text, Python sources (they run, and are signed), ONNX of the standard operators, safetensors, Parquet and
plain numpy arrays. Everything else, and every pickle whatever its name, is a finding.
"""

import json
import pickletools  # nosec B403 # it reads pickles without running them
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import PermanentError

TEXT = frozenset({".json", ".pbtxt", ".md", ".py", ".sig", ".html", ".svg", ".csv", ".txt", ".yaml"})
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operator sets that are pure mathematics, in every runtime; others load code of their own."""


def scan_folder(folder: Path) -> None:
    """Raise PermanentError naming every file below `folder` that could run code or is of an unknown kind."""
    found = []
    for path in sorted(folder.rglob("*")):
        reason = finding(path, folder)
        if reason:
            found.append(f"{path.relative_to(folder).as_posix()!r}: {reason}")
    if found:
        raise PermanentError("refused by the scan of model files: " + "; ".join(found))


def finding(path: Path, folder: Path) -> str | None:
    """Why a file must not be in a release; None when it may."""
    if path.is_symlink():
        return "a link: it can lead anywhere"
    if path.is_dir():
        return None
    if not path.is_file():
        return "not a regular file"
    if _is_pickle(path):
        return "a pickle: loading it runs code"
    check = CHECKS.get(path.suffix)
    if check:
        return check(path)
    if path.suffix in TEXT:
        return None if _is_text(path) else "not text, whatever its name says"
    return f"files of kind {path.suffix!r} are not allowed in a release"


def _is_pickle(path: Path) -> bool:
    """Whether the whole content is one pickle program: it parses to its STOP (as pickle.load would run it)."""
    try:
        with path.open("rb") as file:
            operations = [operation.name for operation, _, _ in pickletools.genops(file)]
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return len(operations) > 1


def _onnx(path: Path) -> str | None:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships no types

    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return f"not valid ONNX: {error}"
    domains = {entry.domain for entry in model.opset_import} - DOMAINS
    if domains or model.functions:
        return f"operators of {sorted(domains) or 'its own functions'}, which a runtime loads code for"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        return "keeps its weights in another file"
    return None


def _tensors(graph: Any) -> Iterator[Any]:
    """Every constant of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _numpy(path: Path) -> str | None:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        return f"not a plain numpy array: {error}"
    return None if array.dtype.kind in "biufU" else f"a numpy array of {array.dtype}"


def _safetensors(path: Path) -> str | None:
    """The header of the format: its length as 8 bytes, then JSON (huggingface/safetensors, README)."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except (UnicodeDecodeError, json.JSONDecodeError):
        return "not safetensors, whatever its name says"
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return None if max(ends, default=0) == len(content) - 8 - length else "safetensors with bytes that belong to none"


def _is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False


def _parquet(path: Path) -> str | None:
    content = path.read_bytes()
    return None if content[:4] == content[-4:] == b"PAR1" else "not Parquet, whatever its name says"


CHECKS = {".onnx": _onnx, ".npy": _numpy, ".safetensors": _safetensors, ".parquet": _parquet}
