"""The contract of a release: an immutable Triton model repository with its card, lineage and drift reference.

    <digest>/
      <workload>/config.pbtxt, 1/...     what Triton loads: code, network.onnx, model.json (`ModelSpec`)
      card.md  lineage.json  metrics.json  reference/
      files.json                         path -> SHA-256 of every file above; the digest of THIS file names the release
      release.sig                        signature over all of it (core/signing.py)

`seal` writes the last two; `verify` is run before any server loads a release and names the file that differs.
"""

import json
from pathlib import Path
from typing import Literal

from core.config import Config, canonical_json
from core.errors import PermanentError
from core.files import sha256_bytes, sha256_file, write_atomic
from core.signing import sign, verify_signature

FILES = "files.json"
SIGNATURE = "release.sig"


class ModelSpec(Config):
    """What the code inside the Triton model needs to know (`<workload>/1/model.json`)."""

    workload: str
    release: str = ""
    """Digest of the release; empty in the file (a digest cannot contain itself): the server hands it in."""
    labels: list[str]
    image_size: int
    """Side of the network's input, pixels."""
    precision: Literal["int8", "fp32"]
    temperature: float
    """Divides the logits before the softmax; fitted on validation."""
    abstain_below: float
    """Highest calibrated probability under which the answer is flagged as abstained; chosen on validation."""
    embedding_size: int
    synthetic: bool
    """Trained on rendered images."""


def repository_digest(folder: Path) -> str:
    """SHA-256 (hex) over the names and digests of all files below `folder` (without seal and signature)."""
    return sha256_bytes(_listing(folder).encode())


def _listing(folder: Path) -> str:
    own = {FILES, SIGNATURE}
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return canonical_json({name: sha256_file(path) for name, path in names.items() if name not in own})


def seal(folder: Path, private_key: Path) -> str:
    """List, digest and sign a finished release folder; returns the digest that names it."""
    listing = _listing(folder)
    write_atomic(folder / FILES, listing)
    sign(folder, folder / SIGNATURE, private_key)
    return sha256_bytes(listing.encode())


def sealed_digest(folder: Path) -> str:
    """The digest that the seal of `folder` claims (`verify` checks it); raises PermanentError when it has no seal."""
    if not (folder / FILES).is_file():
        raise PermanentError(f"{str(folder)!r} holds no release: {FILES} is missing")
    return sha256_file(folder / FILES)


def verify(folder: Path, digest: str, public_key: Path) -> None:
    """Raise PermanentError, naming the file, unless `folder` is exactly the signed release `digest`."""
    short = digest[:12]
    if not (folder / FILES).is_file() or not (folder / SIGNATURE).is_file():
        raise PermanentError(f"release {short}: {FILES} or {SIGNATURE} is missing; it was never sealed")
    content = (folder / FILES).read_bytes()
    if sha256_bytes(content) != digest:
        raise PermanentError(f"release {short}: {FILES} was changed")
    expected: dict[str, str] = json.loads(content)
    found: dict[str, str] = json.loads(_listing(folder))
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            what = "is missing" if name not in found else "was added" if name not in expected else "was changed"
            raise PermanentError(f"release {short}: the file {name!r} {what}; refusing to serve it")
    verify_signature(folder, folder / SIGNATURE, public_key, f"release {short}")
