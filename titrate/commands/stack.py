"""`titrate stack`: the engines of one home."""

import json

import click

from titrate.commands.group import command, home


@click.group("stack")
def stack() -> None:
    """Triton, Envoy, MLflow as supervised processes."""


@command(stack, "up")
@click.option("--port", type=click.IntRange(1, 65535), help="Envoy's port (default: chosen per home, then kept).")
@click.option("--insecure", is_flag=True, help="Serve everybody, also beyond this machine (kept in edge.json).")
def stack_up(port: int | None, insecure: bool) -> None:
    """Start what is not running, and wait until it is ready."""
    from titrate.stack.control import up
    from titrate.tables import stack_table

    click.echo(stack_table(up(home(), port, insecure)))


@command(stack, "status")
@click.option("--json", "as_json", is_flag=True)
def stack_status(as_json: bool) -> None:
    """What runs, on which port, and whether it is ready."""
    from titrate.stack.control import status
    from titrate.tables import stack_table

    found = status(home())
    click.echo(json.dumps([service.model_dump(mode="json") for service in found]) if as_json else stack_table(found))


@command(stack, "logs")
@click.argument("service", required=False)
@click.option("--lines", default=40, show_default=True)
def stack_logs(service: str | None, lines: int) -> None:
    """The last lines that the services wrote."""
    from titrate.stack.control import logs

    click.echo(logs(home(), service, lines))


@command(stack, "down")
def stack_down() -> None:
    """Answer what is in flight, then stop everything."""
    from titrate.stack.control import down

    click.echo("stopped" if down(home()) else "nothing was running")
