"""The texts that the cases are read from, section by section.

The protocol is the Open Inference Protocol V2; binary tensors are an extension that servers announce; HTTP, JSON and
gRPC have texts of their own. What the protocol says is not repeated here: the links are.
"""

from typing import NamedTuple

PROTOCOL = "https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol"
KSERVE = "https://github.com/kserve/kserve/blob/master/docs/predict-api/v2/required_api.md"
EXTENSIONS = "https://github.com/triton-inference-server/server/blob/main/docs/protocol"


class Section(NamedTuple):
    """One section of a text."""

    title: str
    link: str


HEALTH = Section("REST: health", f"{PROTOCOL}/inference_rest.md#healthreadinessliveness-probes")
SERVER_METADATA = Section("REST: server metadata", f"{PROTOCOL}/inference_rest.md#server-metadata")
MODEL_METADATA = Section("REST: model metadata", f"{PROTOCOL}/inference_rest.md#model-metadata")
VERSIONS = Section("REST: versions", f"{PROTOCOL}/inference_rest.md#httprest")
INFERENCE = Section("REST: inference", f"{PROTOCOL}/inference_rest.md#inference")
OUTPUTS = Section("REST: requested outputs", f"{PROTOCOL}/inference_rest.md#request-output")
PARAMETERS = Section("REST: ids and parameters", f"{PROTOCOL}/inference_rest.md#parameters")
TENSOR_DATA = Section("REST: tensor data", f"{PROTOCOL}/inference_rest.md#tensor-data")
DATATYPES = Section("REST: datatypes", f"{PROTOCOL}/inference_rest.md#tensor-data-types")
SHAPES = Section("REST: shapes and batches", f"{PROTOCOL}/inference_rest.md#request-input")
ERRORS = Section("REST: errors", f"{PROTOCOL}/inference_rest.md#inference-response-json-error-object")
BINARY = Section("REST: binary tensors", f"{EXTENSIONS}/extension_binary_data.md")
BINARY_DATATYPES = Section("REST: binary datatypes", f"{EXTENSIONS}/extension_binary_data.md")
BINARY_ERRORS = Section("REST: binary errors", f"{EXTENSIONS}/extension_binary_data.md")
JSON = Section("REST: JSON", "https://www.rfc-editor.org/rfc/rfc8259")
HTTP = Section("REST: HTTP", "https://www.rfc-editor.org/rfc/rfc9112")

GRPC_HEALTH = Section("gRPC: health", f"{PROTOCOL}/inference_grpc.md#health")
GRPC_METADATA = Section("gRPC: metadata", f"{PROTOCOL}/inference_grpc.md#metadata")
GRPC_INFERENCE = Section("gRPC: inference", f"{PROTOCOL}/inference_grpc.md#inference")
GRPC_DATATYPES = Section("gRPC: datatypes", f"{PROTOCOL}/inference_grpc.md#tensor-data")
GRPC_PARAMETERS = Section("gRPC: parameters", f"{PROTOCOL}/inference_grpc.md#parameters")
GRPC_ERRORS = Section("gRPC: errors", "https://grpc.io/docs/guides/status-codes/")
GRPC_STREAM = Section(
    "gRPC: streaming", "https://github.com/triton-inference-server/common/blob/main/protobuf/grpc_service.proto"
)
"""The open inference protocol has no streaming: this is the definition of the server that introduced it."""
