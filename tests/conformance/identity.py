"""A model that gives back what it is given, in every datatype: the subject for which every case applies.

`write` makes a Triton repository with `identity` (no batching) and `identity_batched`; `running` serves it with the
real Triton of `serving.triton`, on free ports of the loopback.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from serving.triton.server import READY_WITHIN, STOP_WITHIN, clean_up, command, environment, free_ports, is_ready
from serving.triton.wheel import prepare
from tests.conformance.wire import DATATYPES

MODEL = '''\
"""Every output is the input of the same suffix."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        asked = set(request.requested_output_names())
        names = [i.name() for i in request.inputs()]
        pairs = [(n.replace("IN_", "OUT_"), pb_utils.get_input_tensor_by_name(request, n)) for n in names]
        return pb_utils.InferenceResponse([pb_utils.Tensor(o, t.as_numpy()) for o, t in pairs if o in asked])
'''

MODELS = {"identity": 0, "identity_batched": 8}
"""Name and `max_batch_size`."""
MEMORY = 8 << 30
"""Address space of the server, bytes: this Triton allocates what a shape claims before it looks at the data."""


def tensors(prefix: str, datatypes: Sequence[str], dims: str) -> str:
    """The inputs or outputs of a `config.pbtxt`.

    FP32 ends in a fixed dimension, so that a wrong shape exists; UINT8 has a dimension more, as images have. FP16 is
    optional as an input: this server refuses it in JSON, as the protocol allows.
    """
    kinds = {name: "STRING" if name == "BYTES" else name for name in datatypes}
    last = {"FP32": "2", "UINT8": "-1, -1"}
    more = {"FP16": " optional: true"} if prefix == "IN" else {}
    return ",\n".join(
        f'  {{ name: "{prefix}_{n}" data_type: TYPE_{kinds[n]} dims: [ {dims}{last.get(n, "-1")} ]{more.get(n, "")} }}'
        for n in datatypes
    )


def configuration(name: str, max_batch: int) -> str:
    """The `config.pbtxt` of one identity model: all datatypes, and with batching all but FP16."""
    datatypes = [d for d in DATATYPES if d != "FP16" or not max_batch]
    dims = "" if max_batch else "-1, "
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {max_batch}\n'
        f"input [\n{tensors('IN', datatypes, dims)}\n]\noutput [\n{tensors('OUT', datatypes, dims)}\n]\n"
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )


def write(repository: Path) -> Path:
    """A Triton model repository in an empty folder; returns the folder."""
    for name, max_batch in MODELS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(MODEL)
        (repository / name / "config.pbtxt").write_text(configuration(name, max_batch))
    return repository


class Server:
    """Models behind a real Triton, which can be started again: some requests end this version."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.ports = free_ports()
        self.shared_memory = f"conformance-{self.ports.http}-"
        self.arguments = command(repository, self.ports, prepare(folder), self.shared_memory)
        self.log = folder / "triton.log"
        self.start()

    def start(self) -> None:
        """Start a process in a group of its own, with its stubs; returns when it is ready.

        `prlimit` and `setpriv` stand for a `preexec_fn`: the handlers that gRPC runs after a fork hang in the child of
        a process with an open channel.
        """
        wrapped = ["prlimit", f"--as={MEMORY}", "setpriv", "--pdeathsig", "KILL", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                wrapped, env=environment(""), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_WITHIN
        while not is_ready(self.ports):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.kill()
                raise RuntimeError(f"tritonserver is not ready, see {self.log}")
            time.sleep(0.05)

    def restart(self) -> None:
        """End what is left, and start."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End the server and its stubs: the process group is this server's alone."""
        clean_up(self.process.pid, self.shared_memory)
        self.process.wait()

    def stop(self) -> None:
        """End the server in good order."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_WITHIN)
        self.kill()


@contextmanager
def running(folder: Path, repository: Path | None = None) -> Iterator[Server]:
    """The server, from start to end of the block, with the identity models unless a repository is given.

    `folder` gets models, backends and log.
    """
    server = Server(folder, repository or write(folder / "models"))
    try:
        yield server
    finally:
        server.stop()
