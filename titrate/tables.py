"""How lists look on the terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from serving.rollout.plan import Plan
    from serving.rollout.spec import RolloutSpec
    from titrate.cost import Prices
    from titrate.doctor import Check
    from titrate.drift import DriftReport
    from titrate.gc import Unneeded
    from titrate.kubeflow import RunStatus
    from titrate.loop.jobs import Job
    from titrate.loop.status import LoopStatus
    from titrate.loop.watch import Alarm
    from titrate.predict import Prediction
    from titrate.releases import ReleaseRow
    from titrate.rollouts.control import Row
    from titrate.run import RunRecord
    from titrate.stack.state import ServiceStatus
    from tuning.result import SweepResult

WIDTH = 140


def render(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """A plain table as text; `empty` when there are no rows."""
    lines = list(rows)
    if not lines:
        return empty
    table = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for line in lines:
        table.add_row(*line)
    console = Console(width=WIDTH, force_terminal=False, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def predictions_table(answers: "Sequence[Prediction]") -> str:
    """`titrate predict`."""
    rows = [
        (
            a.path,
            a.label or "-",
            f"{a.probability:.3f}" if a.label else "-",
            "yes" if a.abstain else "",
            a.release[:12],
            a.error or "",
        )
        for a in answers
    ]
    return render(("image", "label", "probability", "abstains", "release", "error"), rows, "no images")


def drift_table(found: "DriftReport") -> str:
    """`titrate drift status`."""
    rows = [
        (
            one.method,
            one.verdict.outcome.value,
            str(one.events),
            "-" if one.effect is None else f"{one.effect:.3f}",
            "-" if one.p_value is None else f"{one.p_value:.2g}",
            ", ".join(f"{name} {moved:.2f}" for name, moved in list(one.attribution.items())[:3]),
        )
        for one in found.findings
    ]
    table = render(("detector", "verdict", "events", "effect", "p", "moved most"), rows, "no detectors")
    head = f"{found.workload} {found.release[:12]}: {found.events} events of the last {found.hours:g} h"
    return f"{head}\n{table}\n{found.said}"


def loop_table(found: "LoopStatus") -> str:
    """`titrate loop status`."""
    watch, kept, job = found.watch, found.retraining, found.job
    rows = [("watches", f"{found.workload} {found.release[:12]}")]
    if watch:
        last = watch.points[-1] if watch.points else None
        rows += [
            ("events", f"{watch.events:,} since {watch.since:%F %H:%M:%S}, {watch.updates:,} updates"),
            ("evidence", f"{last.whole if last else 0:.1f} of {watch.limit:.1f} nats"),
            ("alarm", watch.alarm.said if watch.alarm else "none is open"),
        ]
    else:
        rows.append(("drift", "not looked at yet; the stack's loop does it"))
    rows.append(("retraining", kept.reason))
    if kept.new_samples is not None:
        rows.append(("new samples", f"{kept.new_samples:,}, {found.settings.retraining.min_new:,} are needed"))
    if job:
        rows.append(("job", f"{job.id} {job.status} ({job.trigger}: {job.why})"))
    return render(("", ""), rows, "")


def alarms_table(found: "Sequence[Alarm]") -> str:
    """`titrate drift show`."""
    rows = [
        (f"{a.raised_at:%F %H:%M:%S}", a.release[:12], " and ".join(a.causes), f"{a.began:%F %H:%M:%S}", str(a.events))
        for a in found
    ]
    return render(("raised (UTC)", "release", "cause", "began", "events"), rows, "no alarm was raised")


def jobs_table(found: "Sequence[Job]") -> str:
    """`titrate loop history`."""
    rows = [
        (
            j.id,
            j.status,
            j.trigger,
            j.why[:60],
            j.base[:12],
            (j.release or "")[:12],
            (j.dataset or "")[:12],
            f"{(j.ended_at - j.triggered_at).total_seconds():,.0f} s" if j.ended_at else "",
            (j.error or "").partition("\n")[0][:60],
        )
        for j in found
    ]
    columns = ("job", "is", "trigger", "because", "base", "release", "data", "took", "error")
    return render(columns, rows, "the loop has trained nothing yet")


def releases_table(found: "Sequence[ReleaseRow]") -> str:
    """`titrate releases`."""
    rows = [
        (
            r.workload,
            str(r.version),
            r.digest[:12],
            ", ".join(r.aliases),
            "yes" if r.serving else "",
            r.accuracy,
            f"{r.created_at:%Y-%m-%d %H:%M}",
        )
        for r in found
    ]
    columns = ("workload", "version", "release", "aliases", "serves", "accuracy", "created (UTC)")
    return render(columns, rows, "nothing is registered yet; `titrate run pills --data DIR` makes a release")


def runs_table(found: "Sequence[RunRecord]", prices: "Prices | None" = None) -> str:
    """`titrate runs`."""
    rows = [
        (
            r.id,
            r.status,
            f"{r.seconds:.0f} s",
            f"{r.cost.cpu_seconds:.0f} s",
            f"{r.cost.gpu_seconds:.0f} s",
            f"{r.cost.peak_memory_mb:.0f} MiB",
            f"{r.cost.money(prices):.2f} {prices.currency}" if prices else "-",
            (r.release or "")[:12],
            (r.error or "").splitlines()[0][:70] if r.error else "",
        )
        for r in found
    ]
    return render(("run", "status", "time", "cpu", "gpu", "peak", "cost", "release", "error"), rows, "no runs yet")


def stack_table(found: "Sequence[ServiceStatus]") -> str:
    """`titrate stack up` and `status`."""
    rows = [(s.name, s.state, s.address, s.detail) for s in found]
    return render(("service", "state", "address", "detail"), rows, "nothing runs; `titrate stack up` starts the stack")


def checks_table(found: "Sequence[Check]") -> str:
    """`titrate doctor`."""
    rows = [(c.name, str(c.verdict), c.detail, c.remedy) for c in found]
    return render(("check", "verdict", "found", "what to do"), rows, "no checks")


def garbage_table(found: "Sequence[Unneeded]", removed: bool) -> str:
    """`titrate gc`."""
    rows = [(u.kind, u.name, f"{u.bytes / 1e6:.1f} MB", u.why) for u in found]
    total = sum(u.bytes for u in found) / 1e6
    end = f"{'removed' if removed else 'would free'} {total:.1f} MB" + (
        "" if removed else "; `titrate gc --remove` does it"
    )
    return render(("kind", "name", "size", "why"), rows, "") + f"\n{end}" if found else "nothing to remove"


def plan_table(spec: "RolloutSpec", plan: "Plan") -> str:
    """`titrate rollout plan`."""
    rows = []
    for number, step in enumerate(plan.steps, start=1):
        seen = (f"{name} {harm:.1%}" for name, harm in step.smallest_harm.items() if harm is not None)
        dose = f"{step.weight} %" if step.weight else f"{step.shadow} % copied"
        takes, answers = f"{step.seconds:,.0f} s", f"{step.requests:,.0f}"
        rows.append((str(number), dose, takes, answers, step.waits_for, ", ".join(seen) or "none"))
    columns = ("step", "candidate", "takes", "it answers", "waits for", "smallest harm it can see")
    expected = f"about {plan.seconds:,.0f} s, {plan.exposed:,.0f} real answers of the candidate"
    whole = f"{spec.candidate[:12]} after {spec.stable[:12]}: {expected}"
    return "\n".join([whole, "", render(columns, rows, "no steps"), *("problem  " + text for text in plan.problems)])


def rollouts_table(rows: "Sequence[Row]") -> str:
    """`titrate rollout history`."""
    lines = [(r.id, r.workload, r.phase, r.candidate[:12], r.began, str(r.looks), r.reason) for r in rows]
    return render(("rollout", "workload", "is", "candidate", "began", "looks", "because"), lines, "no rollouts")


def kubeflow_run(run: "RunStatus") -> str:
    """`titrate pipeline status RUN`."""
    rows = [(task.name, task.state.lower(), task.error) for task in run.tasks]
    table = render(("task", "state", "error"), rows, "no task has begun")
    return f"{run.name} {run.id}: {run.state.lower()}{f': {run.error}' if run.error else ''}\n{table}"


def kubeflow_runs(found: "Sequence[RunStatus]") -> str:
    """`titrate pipeline status`."""
    rows = [(run.id, run.name, run.state.lower(), f"{run.created:%F %T}" if run.created else "-") for run in found]
    return render(("run", "name", "state", "created"), rows, "no runs")


def sweep_table(found: "SweepResult") -> str:
    """`titrate tune` and `titrate tune show`."""
    from titrate.sweep_display import COLUMNS, row

    trials = sorted(found.trials, key=lambda trial: (trial.score is None, -(trial.score or 0.0)))
    marks = dict.fromkeys(found.front, "front") | {found.best: "best"}
    rows = [(marks.get(trial.number, ""), *row(trial)) for trial in trials]
    table = render(("", *COLUMNS), rows, "no trials yet")
    if found.best is None:
        return table
    mattered = ", ".join(f"{key} {share:.0%}" for key, share in list(found.importance.items())[:3])
    end = [f"mattered  {mattered}"] if mattered else []
    end += [f"report    {found.report}", f"best      titrate run {found.workload} --data DIR --config {found.config}"]
    return "\n".join([table, "", *end])
