"""The identity model on KServe's Python server, for conformance_peers.py: `python conformance_kserve.py TENSORS`.

TENSORS is a JSON file with `inputs` and `outputs` of the metadata; the ports are arguments of the server. The server
listens on all interfaces and has no option for it: here it is bound to the loopback.
"""

import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from grpc.aio._server import Server
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Identity(Model):
    """Every output is the input of the same suffix, decoded and encoded by the server's own types."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        super().__init__("identity")
        self.tensors = tensors
        self.ready = True

    async def get_input_types(self) -> list[dict[str, Any]]:
        """Inputs of the metadata."""
        return list(self.tensors["inputs"])

    async def get_output_types(self) -> list[dict[str, Any]]:
        """Outputs of the metadata."""
        return list(self.tensors["outputs"])

    def predict(self, payload: InferRequest, *_: object, **__: object) -> InferResponse:
        """The answer to one request."""
        outputs = []
        for tensor in payload.inputs:
            array = tensor.as_numpy()
            output = InferOutput(tensor.name.replace("IN_", "OUT_"), list(array.shape), tensor.datatype)
            output.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            outputs.append(output)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def loopback_only() -> None:
    """Bind both servers to 127.0.0.1."""
    config, bind = uvicorn.Config, Server.add_insecure_port
    uvicorn.Config = lambda app, **options: config(app, **options | {"host": "127.0.0.1"})
    Server.add_insecure_port = lambda self, address: bind(self, address.replace("[::]", "127.0.0.1"))


if __name__ == "__main__":
    loopback_only()
    tensors_file, http_port, grpc_port = sys.argv[1:]
    sys.argv = sys.argv[:1]
    model = Identity(json.loads(Path(tensors_file).read_text()))
    ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), workers=1).start([model])
