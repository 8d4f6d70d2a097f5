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


@command(drift, "show")
@click.option("--workload", default="pills", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="All alarms, as JSON.")
def drift_show(workload: str, as_json: bool) -> None:
    """All alarms, newest first, and the page that explains them."""
    from titrate.loop.page import write_page
    from titrate.loop.status import raised
    from titrate.tables import alarms_table

    found = raised(home(), workload)
    if as_json:
        click.echo("\n".join(alarm.model_dump_json() for alarm in found))
        return
    click.echo(alarms_table(found))
    if found:
        click.echo(f"newest   {found[0].said}")
    click.echo(f"page     {write_page(home(), workload)}")


@command(drift, "simulate")
@click.argument("folder")
@click.option("--workload", default="pills", show_default=True)
@click.option(
    "--kind", type=click.Choice(["none", "blur", "colour", "noise", "dark"]), default="blur", show_default=True
)
@click.option("--level", type=click.IntRange(1, 5), default=3, show_default=True)
@click.option("--only", multiple=True, metavar="CLASS", help="Ask about these classes alone: another mix.")
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True)
@click.option("--labels", is_flag=True, help="Say what each image was: the name of its folder.")
def drift_simulate(
    folder: str, workload: str, kind: str, level: int, only: tuple[str, ...], seconds: float, labels: bool
) -> None:
    """Ask what serves about the images in the class folders of FOLDER as a broken camera would take them."""
    from pathlib import Path

    from titrate.simulate import Simulated, simulate

    asked = Simulated(kind=kind, level=level, only=only, seconds=seconds, labels=labels)
    click.echo(simulate(home(), Path(folder), workload, asked))
