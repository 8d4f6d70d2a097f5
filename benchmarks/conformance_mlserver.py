"""The identity model as an MLServer runtime, for conformance_peers.py: decode with MLServer's codec, encode again."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput, ResponseOutput


class Identity(MLModel):
    """Every output is the input of the same suffix. Validation and requested outputs are left to the server."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answer to one request."""
        outputs = [echo(tensor) for tensor in payload.inputs]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def echo(tensor: RequestInput) -> ResponseOutput:
    """One input as an output; the numpy codec has no BYTES of different lengths."""
    name = tensor.name.replace("IN_", "OUT_")
    if tensor.datatype == "BYTES":
        return ResponseOutput(name=name, shape=tensor.shape, datatype=tensor.datatype, data=tensor.data)
    return NumpyCodec.encode_output(name, NumpyCodec.decode_input(tensor))
