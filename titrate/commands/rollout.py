"""`titrate rollout` and `titrate rollback`: a candidate earns its traffic, or loses it."""

import json
from typing import TYPE_CHECKING, Any

import click

from titrate.commands.group import command, home

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.rollout.observations import CommandName
    from serving.rollout.spec import RolloutSpec


@click.group("rollout")
def rollout() -> None:
    """A candidate earns its traffic step by step, and loses it when the evidence says so."""


def _spec_options(function: "Callable[..., None]") -> "Callable[..., None]":
    options = (
        click.argument("workload"),
        click.option("--candidate", metavar="REL", help="Digest, or workload:version (default: the alias candidate)."),
        click.option("--preset", default="canary", show_default=True, help="Which steps; see docs/rollouts.md."),
        click.option("--spec", "file", metavar="FILE", help="A complete spec as JSON, instead of a preset."),
        click.option("--weights", metavar="5,25,100", help="Steps of your own, percent."),
        click.option("--bake", type=click.FloatRange(0), metavar="SECONDS", help="Shortest time of each step."),
        click.option("--min-requests", type=click.IntRange(1), help="Answers of the candidate that each step needs."),
        click.option("--labels/--no-labels", default=True, help="Whether promotion waits for labelled accuracy."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _made(chosen: dict[str, Any]) -> "RolloutSpec":
    from core.errors import UserError
    from titrate.rollouts.specs import Asked, made

    bake, weights = chosen.pop("bake"), chosen.pop("weights")
    try:
        parsed = tuple(int(weight) for weight in weights.split(",")) if weights else ()
    except ValueError as error:
        raise UserError(f"--weights {weights!r}: give whole percents with commas, as in 5,25,100") from error
    return made(home(), Asked(**chosen, weights=parsed, bake_seconds=bake))


@command(rollout, "plan")
@_spec_options
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests per second (default: measured now).")
@click.option("--json", "as_json", is_flag=True)
def rollout_plan(rate: float | None, as_json: bool, **chosen: Any) -> None:
    """What a rollout would take: time, exposure, the smallest harm each step can see, what cannot be."""
    from titrate.rollouts.specs import expected
    from titrate.tables import plan_table

    spec = _made(chosen)
    plan = expected(home(), spec, rate)
    click.echo(plan.model_dump_json(indent=1) if as_json else plan_table(spec, plan))


@command(rollout, "start")
@_spec_options
@click.option("--watch", "watched", is_flag=True, help="Watch it until it ends.")
def rollout_start(watched: bool, **chosen: Any) -> None:
    """Begin; refused while another rollout of WORKLOAD goes on."""
    from titrate.rollouts.control import start, watch

    spec = _made(chosen)
    journal = start(home(), spec)
    click.echo(f"rollout  {journal.id}: {spec.workload}, {spec.candidate[:12]} after {spec.stable[:12]}")
    click.echo(f"next     titrate rollout watch {spec.workload}")
    if watched:
        watch(home(), spec.workload, click.echo)


@command(rollout, "status")
@click.argument("workload")
@click.option("--json", "as_json", is_flag=True)
def rollout_status(workload: str, as_json: bool) -> None:
    """Where the newest rollout of WORKLOAD is, and what it waits for."""
    from serving.rollout.watch import watch_lines
    from titrate.rollouts.control import newest

    spec, state = newest(home(), workload).load()
    shown = state.model_dump(mode="json", exclude={"evidence", "limits", "world", "cursors", "stable_spec"})
    click.echo(json.dumps(shown) if as_json else "\n".join(watch_lines(state, spec)))


@command(rollout, "watch")
@click.argument("workload")
def rollout_watch(workload: str) -> None:
    """Draw it after every look until it has ended; then write its timeline as HTML."""
    from titrate.rollouts.control import newest, timeline, watch

    watch(home(), workload, click.echo)
    click.echo(f"\ntimeline {timeline(newest(home(), workload))}")


def _add(name: "CommandName", text: str) -> None:
    @click.argument("workload")
    def run(workload: str) -> None:
        from titrate.rollouts.control import command as leave

        click.echo(leave(home(), workload, name))

    run.__doc__ = text
    command(rollout, name)(run)


_add("pause", "Hold the weights where they are; harm still rolls back.")
_add("resume", "Go on after a pause.")
_add("abort", "Back to stable, now.")
_add("promote", "Skip the steps that are left; the judge still watches, and the log says who asked.")
_add("retry", "The same candidate again, after a rollback; evidence for its promotion is carried on.")


@command(rollout, "approve")
@click.argument("workload")
@click.option("--step", type=click.IntRange(1), help="Only if this step waits.")
def rollout_approve(workload: str, step: int | None) -> None:
    """Let the step that waits for an approval pass."""
    from titrate.rollouts.control import command as leave

    click.echo(leave(home(), workload, "approve", None if step is None else step - 1))


@command(rollout, "history")
@click.argument("workload", required=False)
@click.option("--json", "as_json", is_flag=True)
def rollout_history(workload: str | None, as_json: bool) -> None:
    """All rollouts, newest first."""
    from titrate.rollouts.control import history
    from titrate.tables import rollouts_table

    rows = history(home(), workload)
    click.echo(json.dumps([row.model_dump() for row in rows]) if as_json else rollouts_table(rows))


@command(rollout, "replay")
@click.argument("rollout_id", metavar="ID")
def rollout_replay(rollout_id: str) -> None:
    """Compute every decision again from the log; fails at the first line that was changed or comes out differently."""
    from titrate.rollouts.control import find, replay, timeline

    journal = find(home(), rollout_id)
    looks, state = replay(journal)
    end = f"{state.phase.value.replace('_', ' ')}; {state.reason}".rstrip("; ") if state else "not begun"
    click.echo(f"replayed {looks} looks of {journal.id}, all as written: {end}")
    click.echo(f"timeline {timeline(journal)}")


def add_rollback(main: click.Group) -> None:
    """Add `titrate rollback`."""

    @command(main, "rollback")
    @click.argument("workload")
    def rollback(workload: str) -> None:
        """Back to stable: abort the rollout that goes on, else give all traffic to the former stable release."""
        from titrate.rollouts.control import rollback as back

        click.echo(back(home(), workload))
