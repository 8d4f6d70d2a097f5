"""`titrate predict --batch`: a folder of images to one Parquet table, at the speed of the model server.

It asks the stable release's server itself, past Envoy: scoring an archive is no traffic of a rollout, and all rows come
from one release. Rows are kept in parts beside the table until it is whole, so that the same command goes on after an
interruption, kill -9 included.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from core.config import Config
from core.errors import TemporaryError, UserError, nearest
from core.files import locked, sha256_bytes, write_atomic
from core.home import Home
from titrate.predict import BATCH, BATCH_BYTES, TIMEOUT, Prediction, ask, batches, predictions
from titrate.stack.services import server_name
from titrate.stack.state import read_state

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PART = 2048
"""Rows that a kill may cost: a second of work at 96 px, four at 224 px."""
REQUESTS = 4
"""At once: two for each of two model processes, so that none waits for this one."""
PATIENCE = 30.0
"""Seconds to wait for a server that is started again, which takes 2 to 4."""
ARM = "batch"
"""What the model's events of these requests say: no arm of a rollout."""
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float32()),
        ("abstain", pa.bool_()),
        ("release", pa.string()),
        ("error", pa.string()),
    ]
)


class Plan(Config):
    """What a table is made of; it must still be true when the table is continued."""

    workload: str
    release: str
    folder: str
    images: int
    listing: str
    """SHA-256 of all paths and sizes."""


def score(home: Home, folder: Path, table: Path, workload: str) -> str:
    """Make the table; returns what to tell the user. A bad image is a row with its error.

    Raises UserError when the stack is down, the folder holds no image, or it or the stable release changed since the
    table was begun; TemporaryError when the server stays away.
    """
    if table.exists():
        raise UserError(f"{str(table)!r} exists; name another file, or remove it to score the folder again")
    images = listing(folder)
    plan = _plan(home, workload, folder, images)
    parts = table.with_name(f".{table.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    with locked(parts / "lock", f"{str(table)!r} is being made by another process"):
        kept = _begin(plan, parts / "plan.json")
        began, scored = time.perf_counter(), 0
        with _server(home, plan) as server:
            for start, part in _missing(images, parts):
                rows = server.rows(images[start : start + PART])
                _write(rows, part)
                scored += len(rows)
        seconds = time.perf_counter() - began
        failed = _join(parts, table)
        shutil.rmtree(parts)
    speed = f"{scored:,} of {len(images):,} images now" if kept else f"{len(images):,} images"
    return f"{speed} in {seconds:.1f} s ({scored / max(seconds, 1e-9):.0f}/s), {failed:,} with an error -> {table}"


def listing(folder: Path) -> list[Path]:
    """All images below the folder, in the order of their names; raises UserError without any."""
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is no folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{str(folder)!r} holds no image: nothing that ends in {', '.join(SUFFIXES)}")
    return found


def _plan(home: Home, workload: str, folder: Path, images: Sequence[Path]) -> Plan:
    state = read_state(home)
    if state is None:
        raise UserError("the stack is not running; `titrate stack up` starts it")
    if workload not in state.serving:
        raise UserError(f"the stack serves no release of {workload!r}; {nearest(workload, state.serving)}")
    lines = "\n".join(f"{path.stat().st_size} {path}" for path in images)
    return Plan(
        workload=workload,
        release=state.serving[workload],
        folder=str(folder),
        images=len(images),
        listing=sha256_bytes(lines.encode(errors="surrogateescape")),
    )


def _begin(plan: Plan, file: Path) -> bool:
    """Whether the table was begun before; raises UserError when it was begun with something else."""
    if not file.exists():
        write_atomic(file, plan.model_dump_json(indent=1))
        return False
    before = Plan.from_file(file)
    changed = [name for name in Plan.model_fields if getattr(before, name) != getattr(plan, name)]
    if changed:
        told = ", ".join(f"{name} was {getattr(before, name)!r}, is {getattr(plan, name)!r}" for name in changed)
        raise UserError(f"the table was begun with something else: {told}; remove {str(file.parent)!r} to begin again")
    return True


def _missing(images: Sequence[Path], parts: Path) -> Iterator[tuple[int, Path]]:
    for start in range(0, len(images), PART):
        part = parts / f"{start:09d}.parquet"
        if not part.exists():
            yield start, part


def _write(rows: Sequence[Prediction], part: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row.model_dump() for row in rows], SCHEMA), sink)
    write_atomic(part, sink.getvalue().to_pybytes())


def _join(parts: Path, table: Path) -> int:
    """Write the table; returns how many rows have an error."""
    draft, failed = parts / "table", 0
    with pq.ParquetWriter(draft, SCHEMA) as writer:
        for part in sorted(parts.glob("*.parquet")):
            rows = pq.read_table(part)
            failed += sum(map(bool, rows["error"].to_pylist()))
            writer.write_table(rows)
    draft.replace(table)
    return failed


@contextlib.contextmanager
def _server(home: Home, plan: Plan) -> "Iterator[_Server]":
    pool = ThreadPoolExecutor(REQUESTS)
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
        try:
            yield _Server(home, plan, pool, client)
        finally:
            pool.shutdown(cancel_futures=True)


class _Server:
    """The stable release's server, asked by several threads."""

    def __init__(self, home: Home, plan: Plan, pool: ThreadPoolExecutor, client: httpx.Client) -> None:
        self._home, self._plan, self._pool, self._client = home, plan, pool, client
        self._url = ""
        self._url = self._find()

    def rows(self, images: Sequence[Path]) -> list[Prediction]:
        """One for each image, in order; raises TemporaryError, UserError."""
        chunks = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
        return [row for rows in self._pool.map(self._chunk, chunks) for row in rows]

    def _chunk(self, paths: Sequence[Path]) -> list[Prediction]:
        contents = {path: _read(path) for path in paths}
        readable = ((path, content) for path, content in contents.items() if isinstance(content, bytes))
        found = {}
        for batch in batches(readable):
            answers = predictions([path for path, _ in batch], self._ask([content for _, content in batch]))
            found.update({path: answer for (path, _), answer in zip(batch, answers, strict=True)})
        return [found.get(path) or self._unread(path, str(contents[path])) for path in paths]

    def _unread(self, path: Path, error: str) -> Prediction:
        return Prediction(
            path=str(path), label="", probability=0, abstain=True, release=self._plan.release, error=error
        )

    def _ask(self, contents: Sequence[bytes]) -> dict[str, list[Any]]:
        """Again while the server is away, as long as PATIENCE allows."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return ask(self._client, self._url, contents, **{"x-titrate-arm": ARM})
            except TemporaryError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                self._url = self._find()

    def _find(self) -> str:
        """Where the server is, or was."""
        name = server_name(self._plan.workload, self._plan.release)
        state = read_state(self._home)
        found = [service.address for service in state.services if service.name == name] if state else []
        return f"{found[0]}/v2/models/{self._plan.workload}/infer" if found else self._url


def _read(path: Path) -> bytes | str:
    """The content, or why there is none."""
    try:
        if path.stat().st_size > BATCH_BYTES:
            return f"too_large: {path.stat().st_size:,} bytes, more than {BATCH_BYTES:,}"
        return path.read_bytes()
    except OSError as error:
        return f"unreadable: {error.strerror}"
