"""The model behind Envoy's internal gRPC listener: inference with a deadline, and a watch on whether it is there.

One `ModelInfer` for each group of at most `max_batch_size` images; outputs come back as raw bytes and are read with
struct, since numpy costs more than the few values of an answer.
"""

import asyncio
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as v2

from core.events import prediction_id
from serving.gateway.problems import Code, ProblemError

SERVICE = "/inference.GRPCInferenceService/"
OUTPUTS = ("label", "probability", "labels", "probabilities", "abstain", "release", "error")
MAX_MESSAGE = 128 * 2**20
"""Bytes: 8 images of 10 MiB fit."""
WORKLOAD = "x-titrate-workload"
"""Names the workload to Envoy: a gRPC path does not (envoy_routes.py)."""
PROBE_TIME = 1.0
"""Seconds that a probe may take before it counts as failed."""
CALM, ALERT = 1.0, 0.1
"""Seconds between probes while the last one was good, and while it was not."""
PROBES = 5
"""Failed probes in a row that turn readiness red: Envoy sends each to one arm, and one arm may be away."""
STALE = 10.0
"""Seconds after which the last probes say nothing any more."""
Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Model:
    """What the server says of one served model."""

    name: str
    versions: tuple[str, ...]
    max_batch: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One item: a prediction, or an `error` (`code: text`)."""

    prediction_id: str
    release: str
    label: str
    probability: float
    top: list[tuple[str, float]]
    abstain: bool
    error: str


class Upstream:
    """One channel to `target` (host:port). Make it inside the event loop that uses it."""

    def __init__(self, target: str, workloads: Sequence[str]) -> None:
        self.models: dict[str, Model] = {}
        """Known models, by name; a model is known from its first good probe on."""
        self._failed = dict.fromkeys(workloads, PROBES)
        """Failed probes in a row."""
        self._probed = 0.0
        """When all were probed last, on the monotonic clock."""
        self._template = _template()
        options = [
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
            ("grpc.enable_retries", 0),  # Envoy retries; twice would multiply the load of a failing server
        ]
        self._channel = grpc.aio.insecure_channel(target, options)
        self._infer = self._method("ModelInfer", v2.ModelInferResponse)
        self._model_ready = self._method("ModelReady", v2.ModelReadyResponse)
        self._metadata = self._method("ModelMetadata", v2.ModelMetadataResponse)
        self._config = self._method("ModelConfig", v2.ModelConfigResponse)

    def _method(self, name: str, answer: Any) -> Any:
        return self._channel.unary_unary(
            SERVICE + name, request_serializer=_serialize, response_deserializer=answer.FromString
        )

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()

    def is_ready(self, workload: str) -> bool:
        """Whether this workload is loaded and answers."""
        fresh = time.monotonic() - self._probed < STALE
        return fresh and workload in self.models and self._failed[workload] < PROBES

    @property
    def ready(self) -> bool:
        """Whether all workloads are."""
        return bool(self._failed) and all(map(self.is_ready, self._failed))

    async def watch(self) -> None:
        """Probe for ever, so that `ready` and `models` stay true."""
        while True:
            await asyncio.gather(*map(self._probe, self._failed))
            self._probed = time.monotonic()
            await asyncio.sleep(ALERT if any(self._failed.values()) else CALM)

    async def _probe(self, name: str) -> None:
        try:
            answer = await self._ask(self._model_ready, v2.ModelReadyRequest(name=name))
            if answer.ready and not self.is_ready(name):
                self.models[name] = await self._describe(name)
            self._failed[name] = 0 if answer.ready else self._failed[name] + 1
        except grpc.aio.AioRpcError:
            self._failed[name] += 1

    async def _describe(self, name: str) -> Model:
        metadata = await self._ask(self._metadata, v2.ModelMetadataRequest(name=name))
        config = await self._ask(self._config, v2.ModelConfigRequest(name=name))
        return Model(name, tuple(metadata.versions), max(1, config.config.max_batch_size))

    async def _ask(self, method: Any, request: Any) -> Any:
        """One attempt: Envoy would hide a server that is away behind its retries."""
        metadata = ((WORKLOAD, request.name), ("x-envoy-max-retries", "0"))
        return await method(request, timeout=PROBE_TIME, metadata=metadata)

    async def infer(self, workload: str, images: Sequence[bytes], seconds: float, metadata: Metadata) -> list[Answer]:
        """One answer for each image, in order, within `seconds`; raises ProblemError.

        Needs a workload that `models` has.
        """
        size = self.models[workload].max_batch
        if len(images) <= size:
            return await self._infer_group(workload, images, seconds, metadata)
        until = time.monotonic() + seconds
        groups = (images[at : at + size] for at in range(0, len(images), size))
        answers: list[Answer] = []
        for group in groups:  # one after the other: a large request takes one place in the server's queue
            answers += await self._infer_group(workload, group, until - time.monotonic(), metadata)
        return answers

    async def _infer_group(
        self, workload: str, images: Sequence[bytes], seconds: float, metadata: Metadata
    ) -> list[Answer]:
        request_id = uuid.uuid4().hex
        request = v2.ModelInferRequest()
        request.CopyFrom(self._template)
        request.model_name = workload
        request.id = request_id
        request.inputs[0].shape.extend((len(images), 1))
        request.raw_input_contents.append(b"".join(_prefixed(images)))
        try:
            response = await self._infer(request, timeout=max(0.0, seconds), metadata=((WORKLOAD, workload), *metadata))
        except grpc.aio.AioRpcError as error:
            raise _problem(error) from error
        return read_answers(response, request_id, len(images))


def read_answers(response: Any, request_id: str, count: int) -> list[Answer]:
    """The answers in a ModelInferResponse over `count` images; raises ProblemError when it is not shaped as agreed."""
    raw = {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=False)}
    try:
        label, release, error, labels = (_texts(raw[name]) for name in ("label", "release", "error", "labels"))
        top = len(labels) // count
        probability = struct.unpack(f"<{count}f", raw["probability"])
        probabilities = struct.unpack(f"<{count * top}f", raw["probabilities"])
        abstain = struct.unpack(f"<{count}?", raw["abstain"])
        pairs = list(zip(labels, probabilities, strict=True))
        return [
            Answer(
                prediction_id(request_id, item),
                release[item],
                label[item],
                probability[item],
                pairs[item * top : (item + 1) * top],
                abstain[item],
                error[item],
            )
            for item in range(count)
        ]
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise ProblemError(Code.MODEL_FAILED, "the model's answer is not shaped as agreed") from error


def _template() -> Any:
    request = v2.ModelInferRequest()
    image = request.inputs.add()
    image.name, image.datatype = "image", "BYTES"
    for name in OUTPUTS:
        request.outputs.add().name = name
    return request


def _prefixed(images: Sequence[bytes]) -> Iterator[bytes]:
    for image in images:
        yield struct.pack("<I", len(image))
        yield image


def _texts(raw: bytes) -> list[str]:
    """The strings of a BYTES tensor: each a little-endian uint32 length and that many bytes."""
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _problem(error: grpc.aio.AioRpcError) -> ProblemError:
    """What a failed call means to the client."""
    known = {
        grpc.StatusCode.UNAVAILABLE: (Code.UNREADY, "the model server is away", 1),
        grpc.StatusCode.CANCELLED: (Code.UNREADY, "the model server is going away", 1),
        grpc.StatusCode.RESOURCE_EXHAUSTED: (Code.OVERLOADED, "the model server has too many requests", 1),
        grpc.StatusCode.DEADLINE_EXCEEDED: (Code.DEADLINE, "the model did not answer in time", None),
        grpc.StatusCode.NOT_FOUND: (Code.UNREADY, "the model is not loaded", 1),
    }
    code, detail, retry_after = known.get(error.code(), (Code.MODEL_FAILED, "the model failed on this request", None))
    return ProblemError(code, detail, retry_after)
