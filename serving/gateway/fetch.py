"""Fetches an image from a URL that a client named, without becoming that client's hand inside our network (SSRF).

The host must be on the allow-list. Its name is resolved once, every address it has is checked, and the connection goes
to the checked address: a name that resolves differently a moment later changes nothing. Each redirect is a new URL.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore
import httpx

from serving.gateway.problems import Code, ProblemError
from serving.gateway.settings import Settings

Address = IPv4Address | IPv6Address
MAX_REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
_TUNNELS = (
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2002::/16"),
    IPv6Network("2001::/32"),
)
"""NAT64, 6to4 and Teredo: an IPv4 address, private ones too, in an IPv6 address that looks public."""
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
)


class Fetcher:
    """One per gateway; it keeps no connection open, so that each fetch is checked anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=64,
            max_keepalive_connections=0,
            network_backend=_Guarded(settings),
        )

    async def __call__(self, url: str) -> bytes:
        """The bytes at `url`; raises ProblemError: url_refused, url_failed or too_large."""
        try:
            async with asyncio.timeout(self._settings.url_time):
                return await self._follow(url)
        except TimeoutError as error:
            raise ProblemError(Code.URL_FAILED, f"no image within {self._settings.url_time:g} s") from error
        except _FAILURES as error:
            raise ProblemError(Code.URL_FAILED, f"the fetch failed: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close what is open."""
        await self._pool.aclose()

    async def _follow(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            target = parse(url, self._settings.url_hosts)
            content, location = await self._get(target)
            if location is None:
                return content
            url = str(target.join(location))
        raise ProblemError(Code.URL_FAILED, f"more than {MAX_REDIRECTS} redirects")

    async def _get(self, url: httpx.URL) -> tuple[bytes, str | None]:
        headers: dict[bytes | str, bytes | str] = {
            "host": url.netloc.decode(),
            "accept": "image/*",
            "accept-encoding": "identity",
        }
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with self._pool.stream("GET", target, headers=headers) as response:
            received = httpx.Headers(response.headers)
            if response.status in {301, 302, 303, 307, 308} and "location" in received:
                return b"", received["location"]
            if response.status != 200:
                raise ProblemError(Code.URL_FAILED, f"the server answered {response.status}")
            if received.get("content-encoding", "identity") != "identity":
                raise ProblemError(Code.URL_FAILED, "the server compressed the answer")
            return await self._read(response), None

    async def _read(self, response: httpcore.Response) -> bytes:
        chunks, size = [], 0
        async for chunk in response.aiter_stream():
            size += len(chunk)
            if size > self._settings.max_image:
                raise ProblemError(
                    Code.TOO_LARGE, f"the image at the URL has more than {self._settings.max_image} bytes"
                )
            chunks.append(chunk)
        return b"".join(chunks)


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to a checked address in place of a name; TLS still verifies the name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        address = await resolve(host, port, self._settings)
        return await self._inner.connect_tcp(address, port, *args, **kwargs)


def parse(url: str, hosts: Iterable[str]) -> httpx.URL:
    """The URL, if its scheme, host and port are allowed; raises ProblemError."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ProblemError(Code.URL_REFUSED, "this is not a URL") from error
    if parsed.scheme not in PORTS or not parsed.host or parsed.userinfo:
        raise ProblemError(Code.URL_REFUSED, "only http:// and https:// with a host and without a user are allowed")
    host = parsed.host.lower().rstrip(".")
    if not any(_matches(host, parsed.port, entry.lower()) for entry in hosts):
        raise ProblemError(Code.URL_REFUSED, f"the host {host[:100]!r} is not on the allow-list")
    return parsed


def _matches(host: str, port: int | None, entry: str) -> bool:
    name, colon, digits = entry.rpartition(":")
    if not (colon and digits.isdigit()):
        name, digits = entry, ""
    if (str(port) if port else "") != digits:
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name.strip("[]")


async def resolve(host: str, port: int, settings: Settings) -> str:
    """One address of `host` after all of its addresses were found allowed; raises ProblemError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProblemError(Code.URL_FAILED, f"the name {host[:100]!r} does not resolve") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not allowed(ip_address(address.partition("%")[0]), settings):
            raise ProblemError(Code.URL_REFUSED, f"the host {host[:100]!r} is in a network that is not allowed")
    return addresses[0]


def allowed(address: Address, settings: Settings) -> bool:
    """Whether images may come from this address: it is public, or in a network that the settings name."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return allowed(address.ipv4_mapped, settings)
        if any(address in tunnel for tunnel in _TUNNELS):
            return False
    if any(address in network for network in settings.url_networks if network.version == address.version):
        return True
    return address.is_global and not address.is_multicast
