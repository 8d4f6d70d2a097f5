"""Start the feedback service: `python -m serving.feedback --database sqlite:///events.db --port 8090`."""

import sys

import click
import uvicorn

from core.errors import TitrateError
from core.logs import log_as_json
from serving.feedback.app import KEEP_DAYS, create_app
from serving.feedback.store import open_store


@click.command()
@click.option(
    "--database",
    required=True,
    envvar="TITRATE_FEEDBACK_DATABASE",
    help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME; from the environment where it holds a password.",
)
@click.option("--port", type=click.IntRange(0, 65535), required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--keep-days",
    type=click.FloatRange(0, min_open=True),
    default=KEEP_DAYS,
    show_default=True,
    help="Then they are removed.",
)
def main(database: str, port: int, host: str, keep_days: float) -> None:
    """Take events and labels over HTTP until a signal ends it; in-flight requests are finished."""
    log_as_json()
    try:
        app = create_app(open_store(database), keep_days)
    except TitrateError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    uvicorn.run(app, host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=10)


if __name__ == "__main__":
    main()
