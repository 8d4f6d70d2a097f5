"""Requests and answers as bytes, without a connection: V2 with binary tensors for predictions, JSON for labels.

Open Inference Protocol, binary tensor data extension: a JSON header of `Inference-Header-Content-Length` bytes, then
the tensors. A BYTES tensor is its elements, each behind a little-endian uint32 length.
"""

import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from titrate_client.errors import RequestError
from titrate_client.results import LabelResult, Model, Prediction, Refusal

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS = ("label", "probability", "labels", "probabilities", "abstain", "release", "error")
_SCALARS = {"FP32": "<f4", "BOOL": "?"}


class Request(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    content: bytes = b""
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Inference:
    """A request for predictions; `request_id` names them, and a retry keeps it: one event, however often sent."""

    request_id: str
    count: int
    request: Request


def inference(workload: str, images: Sequence[bytes]) -> Inference:
    """The V2 request for a batch of encoded images."""
    request_id = uuid.uuid4().hex
    tensor = b"".join(part for image in images for part in (struct.pack("<I", len(image)), image))
    image = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(images), 1],
        "parameters": {"binary_data_size": len(tensor)},
    }
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]
    header = json.dumps({"id": request_id, "inputs": [image], "outputs": outputs}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    request = Request("POST", f"/v2/models/{workload}/infer", header + tensor, headers)
    return Inference(request_id, len(images), request)


def predictions(sent: Inference, headers: Mapping[str, str], content: bytes) -> list[Prediction | Refusal]:
    """The answers in order; raises RequestError when the body is not V2's."""
    try:
        at = int(headers[HEADER_LENGTH])
        tensors = {}
        for output in json.loads(content[:at])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            tensors[output["name"]] = _tensor(output["datatype"], output["shape"], content[at : at + size])
            at += size
        return [item(f"{sent.request_id}-{i}", {name: tensors[name][i] for name in OUTPUTS}) for i in range(sent.count)]
    except (KeyError, IndexError, TypeError, ValueError, struct.error) as error:
        raise RequestError(200, "", f"the answer is not V2 with binary tensors: {error!r}") from error


def label_request(rows: Sequence[tuple[str, str]], at: datetime | None) -> Request:
    """The request that sends (prediction_id, label) rows; `at` is when the truth was found."""
    found = {} if at is None else {"at": at.isoformat()}
    body = {"labels": [{"prediction_id": prediction, "label": label, **found} for prediction, label in rows]}
    return Request("POST", "/v1/labels", json.dumps(body).encode(), {"Content-Type": "application/json"})


def label_results(rows: Sequence[tuple[str, str]], content: bytes) -> list[LabelResult]:
    """The service's report, row by row."""
    report = json.loads(content)["rows"]
    return [LabelResult(rows[row["row"]][0], row["result"], row["reason"]) for row in report]


def models(content: bytes) -> list[Model]:
    """The answer to `GET /v1/models`."""
    return [
        Model(model["workload"], tuple(model["versions"]), model["max_batch"])
        for model in json.loads(content)["models"]
    ]


def refusal(status: int, content: bytes) -> RequestError:
    """The error in an answer: a problem document (RFC 9457), V2's `{"error"}`, or the first characters of the body."""
    try:
        document: Any = json.loads(content)
        code = str(document.get("code", ""))
        detail = str(document.get("detail") or document["error"])
    except (ValueError, AttributeError, KeyError):
        code, detail = "", content[:200].decode(errors="replace")
    return RequestError(status, code, detail)


def _tensor(datatype: str, shape: Sequence[int], raw: bytes) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(raw, _SCALARS[datatype]).reshape(shape)
    texts, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, dtype=object).reshape(shape)


def item(prediction_id: str, row: Mapping[str, Any]) -> Prediction | Refusal:
    """The answer in one row of the outputs: for each name an array [d]."""
    if row["error"][0]:
        code, _, detail = row["error"][0].partition(": ")
        return Refusal(prediction_id, code, detail or code)
    return Prediction(
        prediction_id=prediction_id,
        label=row["label"][0],
        probability=float(row["probability"][0]),
        top=tuple(zip(row["labels"], (float(p) for p in row["probabilities"]), strict=True)),
        abstain=bool(row["abstain"][0]),
        release=row["release"][0],
    )
