"""The conformance suite against three servers with the same model: `python benchmarks/conformance_peers.py CACHE`.

Triton (this project's), MLServer and KServe's Python server, each with an identity model over every datatype, each peer
in an environment of its own, which `uv` makes below CACHE on the first run (about 1.5 GB). Printed is the table of
docs/conformance.md; `--out FOLDER` also writes the findings of each server, case by case.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from core.files import write_atomic  # noqa: E402 - the repository is not on the path before
from serving.triton.server import Ports, free_ports, is_ready  # noqa: E402
from tests.conformance.__main__ import examine  # noqa: E402
from tests.conformance.case import Finding, Outcome  # noqa: E402
from tests.conformance.identity import running  # noqa: E402
from tests.conformance.report import count, document, sections  # noqa: E402
from tests.conformance.wire import DATATYPES  # noqa: E402

START_SECONDS = 120.0


class Peer(NamedTuple):
    """A server: what is installed, and how it is started in a folder of its own."""

    title: str
    packages: Sequence[str]
    command: Callable[[Path, Path, Ports], Sequence[str]]
    """From the environment's folder, the working folder and the ports."""


def tensors() -> dict[str, list[dict[str, object]]]:
    """Inputs and outputs of the identity model, as metadata."""
    shapes = {name: [-1, 2 if name == "FP32" else -1] for name in DATATYPES}
    return {
        side: [{"name": f"{prefix}_{name}", "datatype": name, "shape": shape} for name, shape in shapes.items()]
        for side, prefix in (("inputs", "IN"), ("outputs", "OUT"))
    }


def mlserver(environment: Path, folder: Path, ports: Ports) -> Sequence[str]:
    """MLServer with the runtime of conformance_mlserver.py, in one process."""
    model = {"name": "identity", "implementation": "conformance_mlserver.Identity", "platform": "python"}
    versions = {"versions": ["1"], "parameters": {"version": "1"}}
    write_atomic(folder / "model-settings.json", json.dumps(model | versions | tensors()))
    listen = {"host": "127.0.0.1", "http_port": ports.http, "grpc_port": ports.grpc, "metrics_port": ports.metrics}
    write_atomic(folder / "settings.json", json.dumps(listen | {"parallel_workers": 0}))
    return [str(environment / "bin" / "mlserver"), "start", str(folder)]


def kserve(environment: Path, folder: Path, ports: Ports) -> Sequence[str]:
    """KServe's Python server with the model of conformance_kserve.py."""
    write_atomic(folder / "tensors.json", json.dumps(tensors()))
    script = ROOT / "benchmarks" / "conformance_kserve.py"
    python = environment / "bin" / "python"
    return [str(python), str(script), str(folder / "tensors.json"), str(ports.http), str(ports.grpc)]


PEERS = (
    Peer("MLServer 1.7.1", ("mlserver==1.7.1", "uvloop<0.22"), mlserver),  # it does not start with uvloop 0.22
    Peer("KServe 0.20.0", ("kserve==0.20.0",), kserve),
)


def environment(cache: Path, peer: Peer) -> Path:
    """The peer's virtual environment, made on the first run."""
    target = cache / peer.title.replace(" ", "-").lower()
    if not (target / "ready").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, str(target)], check=True)
        subprocess.run([*uv, "pip", "install", "--python", str(target / "bin" / "python"), *peer.packages], check=True)
        write_atomic(target / "ready", "\n".join(peer.packages))
    return target


@contextmanager
def started(cache: Path, peer: Peer) -> Iterator[Ports]:
    """The peer, ready on the loopback, from start to end of the block."""
    folder, ports = cache / "run" / peer.title.replace(" ", "-").lower(), free_ports()
    command = peer.command(environment(cache, peer), folder, ports)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}, stdout=log, stderr=log
        )
        try:
            wait_ready(process, ports, folder)
            yield ports
        finally:
            process.kill()
            process.wait()


def wait_ready(process: "subprocess.Popen[bytes]", ports: Ports, folder: Path) -> None:
    """Return when the server is ready; raises RuntimeError that names its log."""
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(ports):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start, see {folder / 'server.log'}")
        time.sleep(0.1)


def all_findings(cache: Path) -> dict[str, list[Finding]]:
    """The findings by server."""
    found = {}
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder, running(Path(folder)) as server:
        url, target = f"http://127.0.0.1:{server.ports.http}", f"127.0.0.1:{server.ports.grpc}"
        found["Triton 2.51"] = examine(url, target, "identity", revive=server.restart)
    for peer in PEERS:
        with started(cache, peer) as ports:
            found[peer.title] = examine(f"http://127.0.0.1:{ports.http}", f"127.0.0.1:{ports.grpc}", "identity")
    return found


def table(found: dict[str, list[Finding]]) -> str:
    """Pass, fail and not applicable per section and server, as a Markdown table."""
    titles = list(sections(next(iter(found.values()))))
    lines = ["| section | cases | " + " | ".join(found) + " |", "|---|---|" + "---|" * len(found)]
    for title in [*titles, "all"]:
        groups = [cases if title == "all" else sections(cases)[title] for cases in found.values()]
        cells = [" / ".join(str(count(group, outcome)) for outcome in Outcome) for group in groups]
        lines.append(f"| {title} | {len(groups[0])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


KINDS = {
    "the server dies, hangs or drops the connection": ("stopped answering", "no answer", "connection dropped"),
    "the client's mistake blamed on the server (5xx, INTERNAL, UNKNOWN)": ("got 50", "got INTERNAL", "got UNKNOWN"),
    "refused, but without the error object": ("expected an object with 'error'",),
    "accepted what must be refused": ("got 200", "got OK"),
    "another answer than the text says": ("",),
}
"""What a difference comes to, and the words of a finding by which it is known: the first that fits counts."""


def kinds(found: dict[str, list[Finding]]) -> str:
    """The differences of each server by kind, as a Markdown table."""
    lines = ["| difference | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    counted = {title: Counter(map(kind, failed(findings))) for title, findings in found.items()}
    return "\n".join([*lines, *(f"| {k} | " + " | ".join(str(c[k]) for c in counted.values()) + " |" for k in KINDS)])


def kind(finding: Finding) -> str:
    """The kind of one difference."""
    return next(name for name, words in KINDS.items() if any(word in finding.detail for word in words))


def failed(findings: list[Finding]) -> list[Finding]:
    """The differences."""
    return [finding for finding in findings if finding.outcome is Outcome.FAIL]


def main() -> None:
    """Run all, print the table, write the findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder for the environments and the servers' files")
    parser.add_argument("--out", type=Path, help="folder for the findings of each server, as JSON")
    asked = parser.parse_args()
    found = all_findings(asked.cache.absolute())
    print("pass / fail / not applicable\n")
    print(f"{table(found)}\n\n{kinds(found)}")
    for title, findings in found.items():
        if asked.out:
            write_atomic(asked.out / f"{title.replace(' ', '-').lower()}.json", document(findings))


if __name__ == "__main__":
    main()
