"""`titrate drift`: have the inputs of what serves moved?"""

import click

from titrate.commands.group import command, home


@click.group("drift")
def drift() -> None:
    """Whether the images that are asked about still look like those the release was made with."""


@command(drift, "status")
@click.option("--workload", default="pills", show_default=True)
@click.option(
    "--hours", type=click.FloatRange(0, min_open=True), help="Window (default: 24, of the workload's ladder)."
)
@click.option("--json", "as_json", is_flag=True, help="Everything that was found, as JSON.")
def drift_status(workload: str, hours: float | None, as_json: bool) -> None:
    """Compare the events of the last hours with the reference of the served release, once."""
    from titrate.drift import status
    from titrate.tables import drift_table

    found = status(home(), workload, hours)
    click.echo(found.model_dump_json(indent=1) if as_json else drift_table(found))
