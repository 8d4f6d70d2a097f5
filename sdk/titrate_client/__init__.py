"""Client of a Titrate service: `Client`, `AsyncClient`, and `GrpcClient` in `titrate_client.rpc` (extra `grpc`)."""

from titrate_client.client import AsyncClient, Client
from titrate_client.errors import BadImageError, RequestError, TitrateClientError, UnavailableError
from titrate_client.results import LabelResult, Model, Prediction, Refusal

__all__ = [
    "AsyncClient",
    "BadImageError",
    "Client",
    "LabelResult",
    "Model",
    "Prediction",
    "Refusal",
    "RequestError",
    "TitrateClientError",
    "UnavailableError",
]
