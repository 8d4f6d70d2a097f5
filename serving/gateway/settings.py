"""What one gateway is told: where Envoy is, what it serves, and its limits."""

from ipaddress import IPv4Network, IPv6Network

from pydantic import Field

from core.config import Config

MIB = 2**20


class Settings(Config):
    """One gateway process. Sizes are bytes, times seconds."""

    upstream: str
    """`host:port` of Envoy's internal gRPC listener (weights, mirroring and arms apply there)."""
    workloads: tuple[str, ...]
    """Names of the served models; the first one answers where the client names none. Without any it is never ready."""
    feedback_url: str | None = None
    """Where labels go; without it `POST /v1/labels` answers 503."""
    deadline: float = Field(default=5.0, gt=0)
    """For the model's answer, from the moment the upload is complete: Envoy holds a request while a model server
    restarts (2 to 4 s)."""
    upload_time: float = Field(default=10.0, gt=0)
    """For a request's body to arrive."""
    max_body: int = Field(default=32 * MIB, gt=0)
    max_image: int = Field(default=10 * MIB, gt=0)
    """Of one encoded image: a 50 megapixel JPEG has about 10 MiB."""
    max_images: int = Field(default=64, gt=0)
    """In one request: 8 executions of 8."""
    max_buffered: int = Field(default=256 * MIB, gt=0)
    """Bodies held at one moment, all requests together; above it requests get 503."""
    max_in_flight: int = Field(default=512, gt=0)
    """Requests for predictions at one moment; above it they get 503 instead of a place in a growing queue."""
    url_hosts: tuple[str, ...] = ()
    """Hosts that images may be fetched from: `host`, `*.host`, either with `:port` where it is not 80 or 443."""
    url_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that these hosts may be in; public addresses are always allowed, others never."""
    url_time: float = Field(default=5.0, gt=0)
    """For one image to be fetched, redirects included."""
