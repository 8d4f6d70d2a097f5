"""`titrate loop`, `titrate retrain` and `titrate labels`: the way back from what was served to what is trained."""

import click

from core.errors import DataError
from titrate.commands.group import command, home

WORKLOAD = click.option("--workload", default="pills", show_default=True)


@click.group("loop")
def loop() -> None:
    """Whether what serves is to be trained again, and what became of it."""


@command(loop, "status")
@WORKLOAD
@click.option("--json", "as_json", is_flag=True)
def loop_status(workload: str, as_json: bool) -> None:
    """What asks for a training, what it waits for, and the job that goes on."""
    from titrate.loop.status import status
    from titrate.tables import loop_table

    found = status(home(), workload)
    click.echo(found.model_dump_json(indent=1) if as_json else loop_table(found))


@command(loop, "history")
@WORKLOAD
def loop_history(workload: str) -> None:
    """All trainings that the loop began: trigger, data, base, result."""
    from titrate.loop.jobs import all_jobs
    from titrate.tables import jobs_table

    click.echo(jobs_table(all_jobs(home(), workload)))


@click.group("labels")
def labels() -> None:
    """What predictions should have been."""


@command(labels, "import")
@click.argument("file")
def labels_import(file: str) -> None:
    """Import a CSV FILE with the columns prediction_id, label and, if known, at and source."""
    from pathlib import Path

    from titrate.loop.labels import import_labels

    found = import_labels(home(), Path(file))
    click.echo(", ".join(f"{count:,} {name}" for name, count in found.results.most_common()) or "no rows")
    if found.refused:
        raise DataError("some labels were not taken", found.refused)


def add_retrain(main: click.Group) -> None:
    """`titrate retrain` stands beside `titrate run`."""

    @command(main, "retrain")
    @WORKLOAD
    @click.option("--why", required=True, metavar="TEXT", help="Kept in the audit log.")
    def retrain(workload: str, why: str) -> None:
        """Train the stable release's configuration again on its data of today, and roll the result out."""
        import getpass

        from titrate.loop.retrain import ask

        ask(home(), workload, getpass.getuser(), why)
        click.echo("asked; `titrate loop status` shows what becomes of it")
