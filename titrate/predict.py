"""`titrate predict`: images to answers, through Envoy, as any V2 client would ask (REST with binary tensors).

The format is the binary tensor data extension of the Open Inference Protocol: a JSON header whose length the header
`Inference-Header-Content-Length` gives, then the tensors in order; a BYTES item is its length (uint32, little-endian)
and its bytes.
"""

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import Config
from core.errors import TemporaryError, UserError, nearest
from core.files import write_atomic
from core.home import Home
from titrate.stack.ports import home_ports
from titrate.stack.state import read_state

if TYPE_CHECKING:
    import httpx

BATCH = 8
"""Images a request; the model's largest batch."""
BATCH_BYTES = 24 * 2**20
"""Below Envoy's limit for a body."""
TIMEOUT = 60.0
"""Seconds; Envoy gives up after 30."""
OUTPUTS = ("label", "probability", "abstain", "release", "error")
EXPLANATION = "explanation"
"""Drawn by the model only where it is asked for: a PNG."""
HEADER = "Inference-Header-Content-Length"


class Prediction(Config):
    """The answer to one image."""

    path: str
    label: str
    """Empty when the image could not be read."""
    probability: float
    """Calibrated, of `label`."""
    abstain: bool
    """The model is too unsure to be followed."""
    release: str
    """Digest of the release that answered."""
    error: str = ""
    """Why the image could not be read, beginning with a code."""


def predict(
    home: Home, images: Sequence[Path], workload: str = "pills", explain: Path | None = None
) -> list[Prediction]:
    """Answers in the order of `images`; with the folder `explain`, each image is drawn there under the map of where the
    network looked (`NUMBER-NAME.png`). Raises UserError when the stack is down, does not serve the workload, or a file
    cannot be read; TemporaryError when the server does not answer."""
    import httpx

    url = f"http://127.0.0.1:{_edge(home, workload)}/v2/models/{workload}/infer"
    asked = (*OUTPUTS, EXPLANATION) if explain else OUTPUTS
    answers: list[Prediction] = []
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
        for batch in batches((path, _content(path)) for path in images):
            outputs = ask(client, url, [content for _, content in batch], asked)
            if explain:
                _keep(explain, len(answers) + 1, [path for path, _ in batch], outputs[EXPLANATION])
            answers += predictions([path for path, _ in batch], outputs)
    return answers


def predictions(paths: Sequence[Path], outputs: dict[str, list[Any]]) -> list[Prediction]:
    """One for each image of a request."""
    rows = zip(*(outputs[name] for name in OUTPUTS), strict=True)
    return [
        Prediction(path=str(path), **dict(zip(OUTPUTS, row, strict=True)))
        for path, row in zip(paths, rows, strict=True)
    ]


def batches(images: Iterable[tuple[Path, bytes]]) -> Iterator[list[tuple[Path, bytes]]]:
    """The images with their content, taken as they are needed, as many together as one request may carry."""
    batch: list[tuple[Path, bytes]] = []
    size = 0
    for path, content in images:
        if batch and (len(batch) == BATCH or size + len(content) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((path, content))
        size += len(content)
    if batch:
        yield batch


def encode(contents: Sequence[bytes], outputs: Sequence[str] = OUTPUTS) -> tuple[bytes, int]:
    """A V2 request of encoded images and the length of its JSON header."""
    tensor = b"".join(struct.pack("<I", len(content)) + content for content in contents)
    image = {"name": "image", "datatype": "BYTES", "shape": [len(contents), 1]}
    header = {
        "inputs": [{**image, "parameters": {"binary_data_size": len(tensor)}}],
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    }
    text = json.dumps(header).encode()
    return text + tensor, len(text)


def decode(content: bytes, header_length: int) -> dict[str, list[Any]]:
    """Output name -> its values in order, from a V2 answer with binary tensors; texts, and bytes of explanations."""
    at = header_length
    found: dict[str, list[Any]] = {}
    for output in json.loads(content[:header_length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        values = _values(output["datatype"], content[at : at + size])
        is_text = output["datatype"] == "BYTES" and output["name"] != EXPLANATION
        found[output["name"]] = [value.decode() for value in values] if is_text else values
        at += size
    return found


def _values(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        code = {"FP32": "f", "BOOL": "?"}[datatype]
        return [value for (value,) in struct.iter_unpack(f"<{code}", data)]
    items, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        items.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return items


def _edge(home: Home, workload: str) -> int:
    state = read_state(home)
    if state is None:
        raise UserError("the stack is not running; `titrate stack up` starts it")
    if workload not in state.serving:
        known = nearest(workload, state.serving)
        raise UserError(f"the stack serves no release of {workload!r}; {known}; `titrate stack status` says more")
    return home_ports(home).internal


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the image {str(path)!r}: {error.strerror}") from error


def _keep(folder: Path, first: int, paths: Sequence[Path], drawings: Sequence[bytes]) -> None:
    """Write the drawings; a bad image has none."""
    for number, (path, drawing) in enumerate(zip(paths, drawings, strict=True), first):
        if drawing:
            write_atomic(folder / f"{number}-{path.stem}.png", drawing)


def ask(
    client: "httpx.Client", url: str, contents: Sequence[bytes], outputs: Sequence[str] = OUTPUTS, **headers: str
) -> dict[str, list[Any]]:
    """One request; `headers` by name. Raises UserError when it is too large, TemporaryError when nobody answers."""
    import httpx

    body, length = encode(contents, outputs)
    try:
        response = client.post(url, content=body, headers={HEADER: str(length), **headers})
    except httpx.TransportError as error:
        raise TemporaryError(f"the stack does not answer: {error}; `titrate stack status` says more") from error
    if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        raise UserError(f"{len(body):,} bytes are too much for one request; ask for fewer or smaller images at a time")
    if not response.is_success:
        raise TemporaryError(f"the stack answers {response.status_code}: {response.text.strip()}")
    return decode(response.content, int(response.headers[HEADER]))
