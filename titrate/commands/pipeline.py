"""`titrate pipeline`: the graphs of `titrate run` on Kubeflow."""

from pathlib import Path

import click

from core.errors import PermanentError
from titrate.commands.group import command

platform_option = click.option(
    "--platform", "platform_file", required=True, metavar="FILE", help="The Kubeflow installation, JSON."
)


@click.group("pipeline")
def pipeline() -> None:
    """The graph of `titrate run` on Kubeflow Pipelines."""


@command(pipeline, "compile")
@click.argument("workload")
@click.option("-o", "--output", required=True, metavar="FILE", help="The graph, YAML; the dashboard takes it too.")
@click.option("--platform", "platform_file", metavar="FILE", help="The Kubeflow installation it is for, JSON.")
@click.option("--recipe", metavar="NAME", help="What a run has by default (default: the workload's first).")
def compile_graph(workload: str, output: str, platform_file: str | None, recipe: str | None) -> None:
    """Write KFP's intermediate representation of WORKLOAD's graph."""
    from pipelines.compile import write_ir
    from pipelines.platform import Platform
    from titrate.configuration import configuration

    platform = Platform.from_file(Path(platform_file)) if platform_file else None
    write_ir(workload, Path(output), platform, configuration(workload, recipe, None, ()).model_dump_json())
    click.echo(output)


@command(pipeline, "submit")
@click.argument("workload")
@click.option("--data", required=True, metavar="PATH", help="On the platform's volume: /var/lib/titrate/...")
@platform_option
@click.option("--recipe", metavar="NAME", help="One of the workload's recipes (default: its first).")
@click.option("--config", metavar="FILE", help="A complete run configuration as JSON, instead of a recipe.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one value, e.g. train.images=5000.")
@click.option("--name", metavar="NAME", help="Of the run (default: the workload's).")
@click.option("--cron", metavar="EXPRESSION", help="Again and again; six fields, seconds first: '0 0 2 * * 0'.")
@click.option("--wait", is_flag=True, help="Until it has ended; the exit code is the run's.")
def submit(
    workload: str,
    data: str,
    platform_file: str,
    recipe: str | None,
    config: str | None,
    changes: tuple[str, ...],
    name: str | None,
    cron: str | None,
    wait: bool,
) -> None:
    """Run the pipeline of WORKLOAD on the platform's data."""
    from pipelines.platform import Platform
    from titrate.configuration import configuration
    from titrate.kubeflow import Kubeflow
    from titrate.tables import kubeflow_run

    if cron and wait:
        raise click.UsageError("--cron and --wait exclude each other: a schedule never ends")
    kubeflow = Kubeflow(Platform.from_file(Path(platform_file)))
    settings = configuration(workload, recipe, config, changes)
    if cron:
        click.echo(f"schedule {kubeflow.schedule(workload, data, settings, name or workload, cron)}")
        return
    run = kubeflow.submit(workload, data, settings, name or workload)
    click.echo(f"run {run}")
    for state in kubeflow.wait(run) if wait else ():
        click.echo(kubeflow_run(state))
        if state.ended and state.state != "SUCCEEDED":
            raise PermanentError(f"run {run} ended as {state.state}: {state.error or 'KFP gives no reason'}")


@command(pipeline, "status")
@click.argument("run", required=False)
@platform_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def status(run: str | None, platform_file: str, as_json: bool) -> None:
    """Where RUN is, task by task; without it, the newest runs."""
    from pipelines.platform import Platform
    from titrate.kubeflow import Kubeflow
    from titrate.tables import kubeflow_run, kubeflow_runs

    kubeflow = Kubeflow(Platform.from_file(Path(platform_file)))
    found = [kubeflow.status(run)] if run else kubeflow.runs(10)
    if as_json:
        click.echo("\n".join(one.model_dump_json() for one in found))
    else:
        click.echo(kubeflow_run(found[0]) if run else kubeflow_runs(found))
