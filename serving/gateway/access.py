"""Who may ask at the public port, how often and how much: the part of the edge that a user configures.

A user writes a `Policy` (`edge.json` of a home); `Access` is the policy with its files read, as envoy_filters.py turns
it into Envoy's own filters. The internal listener has none of this: nothing is checked twice.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Self

from pydantic import Field, IPvAnyAddress, model_validator

from core.config import Config

LOOPBACK = "127.0.0.1"


class Jwt(Config):
    """JSON web tokens (RFC 7519) in `Authorization: Bearer`, in place of an API key."""

    issuer: str = Field(min_length=1)
    """The claim `iss`."""
    audiences: tuple[str, ...] = Field(min_length=1)
    """One of them must be among the claim `aud`."""
    jwks: str
    """Path of the issuer's public keys (JSON Web Key Set, RFC 7517)."""
    user_claim: str = "sub"
    """Whose requests are counted together."""


class Rate(Config):
    """A token bucket."""

    per_second: int = Field(gt=0)
    """Requests that are let through in the long run."""
    burst: int = Field(gt=0)
    """Requests that may come at once."""


class Tls(Config):
    """TLS 1.3 (C05). Without files a certificate of the home's own is made, for this machine's names."""

    certificate: str | None = None
    """Path of the PEM chain."""
    private_key: str | None = None
    """Path of its PEM key."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; leave out both to have a pair made")
        return self


class Policy(Config):
    """`edge.json`; the stack reads it again when it changes."""

    address: IPvAnyAddress = IPv4Address(LOOPBACK)
    """Where Envoy listens for clients."""
    insecure: bool = False
    """Listen beyond the loopback address without keys and tokens."""
    jwt: Jwt | None = None
    rate: Rate | None = None
    """For each key or token's user; for each client address where there are neither."""
    rates: dict[str, Rate] = Field(default={})
    """Other rates by name of the key, or user of the token."""
    tls: Tls | None = None
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    """A larger request is answered 413; eight photographs of 4 MB fit."""
    max_connections: int = Field(default=16_384, gt=0)
    """Of clients at one moment, most of them idle; more are closed at once."""
    max_in_flight: int = Field(default=256, gt=0)
    """Requests on their way to one model server: five times 50 clients. As many again may
    wait for a connection; above that 503 with Retry-After."""
    max_memory_bytes: int = Field(default=2**30, gt=0)
    """Envoy's memory, above all bodies on their way; near it new requests get 503 and the largest streams are cut."""
    url_hosts: tuple[str, ...] = ()
    """Hosts that the gateway may fetch images from: `host`, `*.host`, either with `:port`."""
    url_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that these hosts may be in."""


class Access(Config):
    """A policy and the content of its files."""

    policy: Policy = Policy()
    keys: dict[str, str] = Field(default={}, repr=False)
    """API keys by name."""
    jwks: str = Field(default="", repr=False)
    certificate: str = ""
    """PEM; its content rather than its path, so that a new one is a new configuration."""
    private_key: str = ""
    """Path."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        policy = self.policy
        if not (self.keys or policy.jwt or policy.insecure or policy.address.is_loopback):
            raise ValueError(
                f"address {str(policy.address)!r} is open to others, and nobody needs a key; `titrate keys add NAME` "
                "makes one, `jwt` in edge.json accepts tokens, `titrate stack up --insecure` serves everybody"
            )
        return self
