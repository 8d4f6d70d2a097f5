"""Who may ask a home's stack: `edge.json`, the API keys and the certificate below the home, as Envoy is told of them.

Envoy compares keys as they are, so the file that holds them is readable by its owner alone.
"""

import contextlib
import ipaddress
import secrets
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import AwareDatetime, Field, ValidationError

from core.config import Config
from core.errors import UserError, nearest
from core.files import locked, write_atomic
from core.home import Home
from serving.gateway.access import LOOPBACK, Access, Policy

OWNER_ONLY = 0o600
CERTIFICATE_DAYS = 397
"""Longer ones are refused by browsers."""


class ApiKey(Config):
    """One key and when it was made."""

    key: str = Field(repr=False)
    created_at: AwareDatetime


class ApiKeys(Config):
    """`keys/api-keys.json`."""

    keys: dict[str, ApiKey] = Field(default={})
    """By name."""


def access(home: Home, keys: dict[str, ApiKey] | None = None) -> Access:
    """What `edge.json`, the keys and the files they name say; raises UserError that names the file.

    `keys`: others than the home has.
    """
    file = home.root / "edge.json"
    policy = Policy.from_file(file) if file.exists() else Policy()
    certificate, private_key = _pair(home, policy)
    found = {name: entry.key for name, entry in (api_keys(home) if keys is None else keys).items()}
    jwks = _key_set(policy.jwt.jwks) if policy.jwt else ""
    try:
        return Access(policy=policy, keys=found, jwks=jwks, certificate=certificate, private_key=private_key)
    except ValidationError as error:
        raise UserError(f"{file}: {error.errors()[0]['msg']}") from error


def allow_insecure(home: Home) -> None:
    """Note in `edge.json` that everybody may ask."""
    file = home.root / "edge.json"
    policy = Policy.from_file(file) if file.exists() else Policy()
    write_atomic(file, policy.model_copy(update={"insecure": True}).model_dump_json(indent=2, exclude_defaults=True))


def api_keys(home: Home) -> dict[str, ApiKey]:
    """The home's API keys by name; raises UserError when others may read them."""
    file = _key_file(home)
    if not file.exists():
        return {}
    if file.stat().st_mode & 0o077:
        raise UserError(f"others may read the API keys in {str(file)!r}; `chmod 600` it, and replace the keys")
    return ApiKeys.from_file(file).keys


def add_key(home: Home, name: str) -> str:
    """A new key; raises UserError when the name has one."""
    if not name.isascii() or not name.isprintable() or not name.strip() or len(name) > 100:
        raise UserError(f"{name!r} is no name of a key: up to 100 printable ASCII characters")
    with _changing(home):
        found = api_keys(home)
        if name in found:
            raise UserError(f"{name!r} has a key already; `titrate keys remove {name}` first, or choose another name")
        key = secrets.token_urlsafe(32)
        _write_keys(home, {**found, name: ApiKey(key=key, created_at=datetime.now(UTC))})
    return key


def remove_key(home: Home, name: str) -> None:
    """Forget a key; raises UserError when there is none, and when the last one guards an open address."""
    with _changing(home):
        found = api_keys(home)
        if name not in found:
            raise UserError(f"no key is called {name!r}; {nearest(name, found)}")
        kept = {other: key for other, key in found.items() if other != name}
        access(home, kept)  # what the stack would refuse to apply must not look done
        _write_keys(home, kept)


def _changing(home: Home) -> contextlib.AbstractContextManager[None]:
    return locked(home.keys / "api-keys.lock", "another command is changing the API keys")


def _write_keys(home: Home, keys: dict[str, ApiKey]) -> None:
    write_atomic(_key_file(home), ApiKeys(keys=keys).model_dump_json(indent=2), OWNER_ONLY)


def _key_file(home: Home) -> Path:
    return home.keys / "api-keys.json"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise UserError(f"cannot read {path!r}, which edge.json names: {error.strerror}") from error


def _key_set(path: str) -> str:
    """Checked here: what Envoy refuses would stop every later change."""
    text = _read(path)
    try:
        jwt.PyJWKSet.from_json(text)
    except (jwt.PyJWTError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path!r}, which edge.json names, is no JSON Web Key Set: {error}") from error
    return text


def _read_pair(certificate: str, private_key: str) -> str:
    text = _read(certificate)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, private_key, lambda: "")
    except (OSError, ValueError) as error:
        message = f"{certificate!r} and {private_key!r}, which edge.json names, are no pair that can be used: {error}"
        raise UserError(message) from error
    return text


def _pair(home: Home, policy: Policy) -> tuple[str, str]:
    """(PEM of the certificate, path of its key); made when the policy names none, empty without TLS."""
    tls = policy.tls
    if tls is None:
        return "", ""
    if tls.certificate and tls.private_key:
        return _read_pair(tls.certificate, tls.private_key), tls.private_key
    certificate, key = home.keys / "edge-cert.pem", home.keys / "edge-key.pem"
    if not certificate.exists() or not key.exists() or _is_ending(certificate):
        _make_pair(certificate, key, str(policy.address))
    return certificate.read_text(), str(key)


def _is_ending(certificate: Path) -> bool:
    ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return ends < datetime.now(UTC) + timedelta(days=7)


def _make_pair(certificate: Path, key: Path, address: str) -> None:
    """A self-signed pair (ECDSA P-256) for this machine's names."""
    private = ec.generate_private_key(ec.SECP256R1())
    host, now = socket.gethostname(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "titrate edge")])
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(("localhost", host))]
    names += [x509.IPAddress(ipaddress.ip_address(place)) for place in dict.fromkeys((LOOPBACK, address))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    pkcs8, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    write_atomic(key, private.private_bytes(pem, pkcs8, serialization.NoEncryption()), OWNER_ONLY)
    write_atomic(certificate, made.public_bytes(pem))
