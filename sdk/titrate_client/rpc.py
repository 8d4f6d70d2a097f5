"""`GrpcClient`: predictions over V2 gRPC (extra `grpc`), for large batches and long-lived connections.

`tritonclient.grpc` cannot be imported together with `kserve` in one process (both register the same protocol files).
"""

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import tritonclient.grpc as triton

from titrate_client.errors import BadImageError, RequestError, UnavailableError
from titrate_client.images import Image, encoded
from titrate_client.results import Prediction, Refusal
from titrate_client.wire import OUTPUTS, item

AWAY = frozenset({"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"})


class GrpcClient:
    """A blocking client of one workload. gRPC's channel retries a lost connection by itself."""

    def __init__(
        self,
        target: str,
        workload: str,
        *,
        api_key: str | None = None,
        bearer: str | None = None,
        timeout: float = 10.0,
        tls: bool = False,
    ) -> None:
        """`target`: `host:port`; `timeout`: seconds for one batch."""
        self._workload = workload
        self._timeout = timeout
        self._headers = {"x-titrate-workload": workload}
        if api_key is not None:
            self._headers["x-api-key"] = api_key
        if bearer is not None:
            self._headers["authorization"] = f"Bearer {bearer}"
        self._triton = triton.InferenceServerClient(target, ssl=tls)
        self._max_batch: int | None = None

    def predict(self, image: Image) -> Prediction:
        """The answer for one image; raises BadImageError, RequestError, UnavailableError."""
        answer = self._infer([encoded(image)])[0]
        if isinstance(answer, Refusal):
            raise BadImageError(answer)
        return answer

    def predict_batch(self, images: Sequence[Image]) -> list[Prediction | Refusal]:
        """Answers in the order of the images; a bad image gets a Refusal and costs no other."""
        if self._max_batch is None:
            config = self._call(self._triton.get_model_config, self._workload)
            self._max_batch = max(1, config.config.max_batch_size)
        answers: list[Prediction | Refusal] = []
        for at in range(0, len(images), self._max_batch):
            answers += self._infer([encoded(image) for image in images[at : at + self._max_batch]])
        return answers

    def close(self) -> None:
        """Close the channel."""
        self._triton.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _infer(self, images: Sequence[bytes]) -> list[Prediction | Refusal]:
        request_id = uuid.uuid4().hex
        tensor = triton.InferInput("image", [len(images), 1], "BYTES")
        tensor.set_data_from_numpy(np.array(images, dtype=object).reshape(-1, 1))
        outputs = [triton.InferRequestedOutput(name) for name in OUTPUTS]
        answer = self._call(self._triton.infer, self._workload, [tensor], outputs=outputs, request_id=request_id)
        columns = {name: _texts(answer.as_numpy(name)) for name in OUTPUTS}
        return [
            item(f"{request_id}-{i}", {name: column[i] for name, column in columns.items()}) for i in range(len(images))
        ]

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, headers=self._headers, client_timeout=self._timeout, **kwargs)
        except triton.InferenceServerException as error:
            if error.status() in AWAY:
                raise UnavailableError(f"no answer: {error.message()}") from error
            raise RequestError(0, str(error.status() or ""), error.message()) from error


def _texts(column: Any) -> Any:
    if column.dtype != object:
        return column
    return np.array([value.decode() for value in column.ravel()], dtype=object).reshape(column.shape)
