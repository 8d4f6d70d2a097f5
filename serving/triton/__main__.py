"""The entry point of the serving image: verify the release, then become Triton.

`python -m serving.triton /mnt/models`. Nothing of the release runs, and no port opens, before digest and signature are
checked; a release that does not verify ends the container with one line that names the file, which Kubernetes shows as
the pod's termination message.
"""

import argparse
import os
import sys
from pathlib import Path

from core.errors import TitrateError, UserError
from core.release import sealed_digest, verify
from serving.triton.server import Ports, command, environment, event_settings, link_models
from serving.triton.wheel import prepare

TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes reads the reason from."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.triton", description="Verify a release and serve it.")
    parser.add_argument("release", type=Path, help="the release's folder")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("--grpc-port", type=int, default=9000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp", "titrate"))  # nosec B108 # an emptyDir of the pod
    return parser.parse_args()


def verified(release: Path) -> str:
    """The digest of the release; raises unless it is TITRATE_RELEASE and TITRATE_PUBLIC_KEY's owner signed it."""
    key = os.environ.get("TITRATE_PUBLIC_KEY")
    if not key:
        raise UserError("TITRATE_PUBLIC_KEY names no file: without the signer's public key nothing is served")
    digest = os.environ.get("TITRATE_RELEASE") or sealed_digest(release)
    verify(release, digest, Path(key))
    return digest


def main() -> None:
    """Verify, then replace this process by the server: it gets the signals of the container."""
    options = arguments()
    try:
        events = event_settings(os.environ)
        digest = verified(options.release)
        models = options.scratch / "models"
        link_models(options.release, models)
        ports = Ports(options.http_port, options.grpc_port, options.metrics_port)
        line = command(models, ports, prepare(options.scratch), "titrate-", options.address)
    except TitrateError as error:
        print(f"error: {error}", file=sys.stderr)
        if TERMINATION_LOG.exists():
            TERMINATION_LOG.write_text(f"error: {error}\n")
        sys.exit(error.exit_code)
    print(f"release {digest} verified", flush=True)
    os.execve(line[0], line, environment(digest, events))  # nosec B606 # the command line is ours


if __name__ == "__main__":
    main()
