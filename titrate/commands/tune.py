"""`titrate tune`: sweeps over a workload's recipe."""

import click

from titrate.commands.group import command, home


class Tune(click.Group):
    """`titrate tune pills ...` is `titrate tune start pills ...`: what is no command is a workload."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group("tune", cls=Tune)
def tune() -> None:
    """Search for better values of a recipe: `titrate tune pills --data DIR`."""


@command(tune, "start")
@click.argument("workload")
@click.option("--data", metavar="DIR", help="Folder of class folders, or a CSV or JSONL manifest.")
@click.option("--recipe", metavar="NAME", help="What is searched around (default: the workload's first).")
@click.option("--config", metavar="FILE", help="A complete run configuration to search around, instead of a recipe.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Fix one value; it is not searched.")
@click.option("--space", metavar="FILE", help="What is tried, JSON, instead of the workload's own space.")
@click.option("--trials", type=click.IntRange(1), help="How many (default: 24).")
@click.option("--budget", metavar="TIME", help="Wall time for all: 90s, 10m, 2h (default: as long as it takes).")
@click.option("--resume", metavar="SWEEP", help="Go on with a sweep; what has ended is not run again.")
@click.option("--cpus-per-trial", "cpus", type=click.FloatRange(0, min_open=True), help="Cores (default: 1).")
@click.option(
    "--gpus-per-trial", "gpus", type=click.FloatRange(0), help="GPUs or a share (default: 1 if there are any)."
)
@click.option("--pbt", is_flag=True, help="Population-based training instead of ASHA and TPE.")
@click.option("--latency", is_flag=True, help="Search for a low latency as well as for a high score.")
@click.option("--seed", type=click.IntRange(0), help="Of the search (default: 0).")
def start(
    workload: str,
    data: str | None,
    recipe: str | None,
    config: str | None,
    changes: tuple[str, ...],
    space: str | None,
    trials: int | None,
    budget: str | None,
    resume: str | None,
    cpus: float | None,
    gpus: float | None,
    pbt: bool,
    latency: bool,
    seed: int | None,
) -> None:
    """Try values of WORKLOAD's recipe on your data; the best configuration is what `titrate run --config` takes."""
    from titrate.tables import sweep_table
    from titrate.tune import Asked
    from titrate.tune import tune as run

    asked = Asked(
        workload=workload,
        data=data,
        recipe=recipe,
        config=config,
        changes=changes,
        space=space,
        trials=trials,
        seed=seed,
        cpus=cpus,
        gpus=gpus,
        pbt=pbt,
        latency=latency,
    )
    found = run(home(), asked, budget, resume)
    click.echo(sweep_table(found))


@command(tune, "show")
@click.argument("sweep")
@click.option("--json", "as_json", is_flag=True, help="Everything that was found, as JSON.")
def show(sweep: str, as_json: bool) -> None:
    """The trials of SWEEP, the best and the Pareto front, while it runs too."""
    from titrate.tables import sweep_table
    from titrate.tune import show as find

    found = find(home(), sweep)
    click.echo(found.model_dump_json(indent=1) if as_json else sweep_table(found))
