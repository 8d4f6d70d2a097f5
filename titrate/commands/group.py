"""What every command shares: the option --home, and errors printed as their message. Nothing heavy is imported here."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from core.errors import DataError, TitrateError

if TYPE_CHECKING:
    from core.home import Home

ROWS_SHOWN = 20


class Titrate(click.Group):
    """Prints a TitrateError as its message, and exits with its code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except TitrateError as error:
            click.secho(f"error: {error}", fg="red", err=True)
            if isinstance(error, DataError):
                _print_rows(error.rows)
            context.exit(error.exit_code)


def _print_rows(rows: list[tuple[str, str]]) -> None:
    for name, reason in rows[:ROWS_SHOWN]:
        click.echo(f"  {name}: {reason}", err=True)
    if len(rows) > ROWS_SHOWN:
        click.echo(f"  ... and {len(rows) - ROWS_SHOWN} more", err=True)


def _home(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        context.find_root().obj = value
    return value


home_option = click.option(
    "--home",
    metavar="DIR",
    expose_value=False,
    callback=_home,
    help="Where everything is kept (default: $TITRATE_HOME, else ./.titrate).",
)


def home() -> "Home":
    """The home that this command line names."""
    from core.home import Home

    return Home.find(click.get_current_context().find_root().obj)


def command(group: click.Group, name: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of `group` that takes --home."""

    def wrap(function: Callable[..., None]) -> click.Command:
        return group.command(name)(home_option(function))

    return wrap
