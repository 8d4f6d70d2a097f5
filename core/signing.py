"""Signatures of releases by OpenSSF model-signing with an elliptic-curve key pair on disk."""

import os
from pathlib import Path

from core.errors import PermanentError, UserError
from core.files import write_atomic

PRIVATE_KEY = "signing.pem"
PUBLIC_KEY = "signing.pub"


def ensure_keys(folder: Path) -> tuple[Path, Path]:
    """(private, public) key files of a home, made (P-256, private key mode 0600) when they are not there."""
    private, public = folder / PRIVATE_KEY, folder / PUBLIC_KEY
    if private.exists() and not public.exists():
        raise UserError(
            f"{str(private)!r} is there without {public.name!r}; restore it, or move both away for a new pair"
        )
    if not private.exists():
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        write_atomic(public, key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
        old = os.umask(0o077)
        try:
            content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            write_atomic(private, content)
        finally:
            os.umask(old)
    return private, public


def sign(folder: Path, signature: Path, private_key: Path) -> None:
    """Write the signature over every file of `folder` (except itself) to `signature`."""
    from model_signing import hashing, signing

    hashed = hashing.Config().set_ignored_paths(paths=[signature])
    signing.Config().use_elliptic_key_signer(private_key=private_key).set_hashing_config(hashed).sign(folder, signature)


def verify_signature(folder: Path, signature: Path, public_key: Path, name: str) -> None:
    """Raise PermanentError unless `signature` is a signature over `folder` by the owner of `public_key`."""
    from model_signing import hashing, verifying

    if not public_key.is_file():
        raise UserError(f"{name}: the public key {str(public_key)!r} is missing; it comes with the signer's home")
    hashed = hashing.Config().set_ignored_paths(paths=[signature])
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(hashed)
    try:
        verifier.verify(folder, signature)
    except ValueError as error:
        raise PermanentError(f"{name}: the signature does not verify with {public_key.name!r}: {error}") from error
