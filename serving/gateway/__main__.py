"""Start the gateway: `python -m serving.gateway --settings gateway.json --port 8082`."""

import sys
from pathlib import Path

import click
import uvicorn

from core.errors import TitrateError
from core.logs import log_as_json
from serving.gateway.app import create_app
from serving.gateway.settings import Settings

KEEP_ALIVE = 120
"""Seconds that an idle connection stays open: longer than Envoy keeps its own (60), so that Envoy closes first."""


@click.command()
@click.option("--settings", "file", type=click.Path(path_type=Path), required=True, help="JSON of `Settings`.")
@click.option("--port", type=click.IntRange(0, 65535), required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def main(file: Path, port: int, host: str) -> None:
    """Answer uploads until a signal ends it; in-flight requests are finished."""
    log_as_json()
    try:
        settings = Settings.from_file(file)
    except TitrateError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
