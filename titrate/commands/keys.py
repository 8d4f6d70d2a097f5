"""`titrate keys`: who may ask the stack of a home."""

import click

from titrate.commands.group import command, home


@click.group("keys")
def keys() -> None:
    """API keys of the served models; with the first one, nobody is answered without."""


@command(keys, "add")
@click.argument("name")
def keys_add(name: str) -> None:
    """Make a key for NAME and print it; clients send it in the header X-Api-Key."""
    from titrate.stack.access import add_key

    click.echo(add_key(home(), name))


@command(keys, "list")
def keys_list() -> None:
    """Names, and when their keys were made."""
    from titrate.stack.access import api_keys
    from titrate.tables import render

    rows = [(name, f"{key.created_at:%Y-%m-%d %H:%M}") for name, key in sorted(api_keys(home()).items())]
    click.echo(render(("name", "made (UTC)"), rows, "no keys; without any, everybody who reaches the port is answered"))


@command(keys, "remove")
@click.argument("name")
def keys_remove(name: str) -> None:
    """Refuse the key of NAME from now on."""
    from titrate.stack.access import remove_key

    remove_key(home(), name)
    click.echo("removed")
