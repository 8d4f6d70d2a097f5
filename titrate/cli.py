"""The command line: each command parses, calls one function, prints. What a command needs is imported when it runs."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from core.errors import UserError
from titrate.commands.drift import drift
from titrate.commands.group import Titrate, command, home, home_option
from titrate.commands.keys import keys
from titrate.commands.loop import add_retrain, labels, loop
from titrate.commands.pipeline import pipeline
from titrate.commands.rollout import add_rollback, rollout
from titrate.commands.stack import stack
from titrate.commands.tune import tune


@click.group(cls=Titrate, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="titrate")
@home_option
def main() -> None:
    """From a folder of images to a served, watched, self-correcting release."""


main.add_command(drift)
main.add_command(keys)
main.add_command(labels)
main.add_command(loop)
main.add_command(pipeline)
main.add_command(stack)
main.add_command(rollout)
main.add_command(tune)
add_rollback(main)
add_retrain(main)


@command(main, "demo")
@click.option(
    "--fault", default="wrong", show_default=True, help="The second candidate's: wrong|slow|failing|crashing."
)
def demo(fault: str) -> None:
    """Draw pills, run the whole pipeline on them, serve the release, predict, roll out, write report.html."""
    from titrate.demo import demo as play

    play(home(), fault)


def _trained(function: Callable[..., None]) -> Callable[..., None]:
    """What every command that trains asks for."""
    for option in (
        click.option("--nproc", type=click.IntRange(1), help="Training processes (default: one per core or GPU)."),
        click.option(
            "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one value, e.g. train.images=5000."
        ),
        click.option("--config", metavar="FILE", help="A complete run configuration as JSON, instead of a recipe."),
        click.option("--recipe", metavar="NAME", help="One of the workload's recipes (default: its first)."),
        click.option(
            "--data", required=True, metavar="DIR", help="Folder of class folders, or a CSV or JSONL manifest."
        ),
        click.argument("workload"),
    ):
        function = option(function)
    return function


@command(main, "run")
@_trained
def run(workload: str, data: str, recipe: str | None, config: str | None, changes: tuple[str, ...], nproc: int) -> None:
    """Run the pipeline of WORKLOAD on your data: the same command continues what was interrupted."""
    from titrate.configuration import configuration
    from titrate.promote import settle
    from titrate.run import run as start

    record = start(home(), workload, Path(data), configuration(workload, recipe, config, changes), nproc)
    click.echo(f"report   {record.report}")
    click.echo(settle(home(), record.release or ""))


@command(main, "train")
@_trained
def train(
    workload: str, data: str, recipe: str | None, config: str | None, changes: tuple[str, ...], nproc: int | None
) -> None:
    """Train WORKLOAD on your data and stop there; the same command continues what was interrupted."""
    from titrate.train import Asked, told
    from titrate.train import train as start

    asked = Asked(workload=workload, data=data, recipe=recipe, config=config, changes=changes, nproc=nproc)
    click.echo(told(start(home(), asked)))


@command(main, "runs")
def runs() -> None:
    """List the runs of this home, and what they used and cost (prices.json)."""
    from titrate.cost import Prices
    from titrate.run import runs as found
    from titrate.tables import runs_table

    click.echo(runs_table(found(home()), Prices.of(home())))


@command(main, "predict")
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--workload", default="pills", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--explain", metavar="FOLDER", help="Draw there where the network looked in each image.")
@click.option("--batch", metavar="FOLDER", help="All images below it, into a table (-o); once more continues it.")
@click.option("-o", "--output", metavar="FILE", help="The table of --batch, as Parquet.")
def predict(
    images: tuple[str, ...], workload: str, as_json: bool, explain: str | None, batch: str | None, output: str | None
) -> None:
    """Ask the served release, through Envoy: label, calibrated probability, release."""
    if batch or output:
        from titrate.batch import score

        if not (batch and output) or images or explain or as_json:
            raise UserError(
                "a folder is scored with --batch FOLDER -o FILE, and neither images nor --explain or --json"
            )
        click.echo(score(home(), Path(batch), Path(output), workload))
        return
    from titrate.predict import predict as ask
    from titrate.tables import predictions_table

    if not images:
        raise UserError("name images, or a folder with --batch FOLDER -o FILE")
    answers = ask(home(), [Path(image) for image in images], workload, Path(explain) if explain else None)
    click.echo("\n".join(answer.model_dump_json() for answer in answers) if as_json else predictions_table(answers))
    if any(answer.error for answer in answers):
        raise UserError("some images could not be read; see the column 'error'")


@main.group("releases", invoke_without_command=True, cls=click.Group)
@home_option
@click.pass_context
def releases(context: click.Context) -> None:
    """What is registered, who serves; `show ID` prints card, lineage and signature."""
    if context.invoked_subcommand is None:
        from titrate.releases import releases as registered
        from titrate.tables import releases_table

        click.echo(releases_table(registered(home())))


@command(releases, "show")
@click.argument("release")
def releases_show(release: str) -> None:
    """Print the card, the lineage and the state of the signature of RELEASE (digest, workload:alias or :version)."""
    from titrate.releases import show

    click.echo(show(home(), release))


@command(main, "doctor")
def doctor() -> None:
    """What is installed, which engine can start, which port is taken, and what to do about it."""
    from core.verdict import Outcome
    from titrate.doctor import checks
    from titrate.tables import checks_table

    found = checks(home())
    click.echo(checks_table(found))
    if any(check.verdict is Outcome.FAIL for check in found):
        sys.exit(1)


@command(main, "gc")
@click.option("--remove", is_flag=True, help="Remove what is listed.")
def gc(remove: bool) -> None:
    """Show (and remove) what no alias, run or rollout needs: releases, caches, checkpoints."""
    from titrate.gc import collect, unneeded
    from titrate.tables import garbage_table

    found = unneeded(home())
    click.echo(garbage_table(found, removed=remove))
    if remove:
        collect(home(), found)


if __name__ == "__main__":
    main()
