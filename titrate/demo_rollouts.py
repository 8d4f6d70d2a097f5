"""The demo's rollouts: under real load a good candidate is promoted 5/25/100, then a harmful one is rolled back.

Both are copies of the stable release (titrate/faults.py). What takes days in production is compressed here: seconds of
bake and tens of answers for each step, the same alpha, so that the harm must be large enough to be seen in a minute.
Labels come at once, as from a pharmacist who checks every answer.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import click

from components.register.registry import Registry
from core.home import Home
from core.objects import Store
from core.signing import ensure_keys
from serving.rollout.journal import Journal
from serving.rollout.spec import RolloutSpec
from titrate.faults import FAULTS, faulty
from titrate.load import Load, in_class_folders
from titrate.rollouts.control import start, timeline
from titrate.rollouts.specs import Asked, made
from titrate.stack.releases import verified
from titrate.stack.state import serving

WEIGHTS, BAKE_SECONDS, MIN_REQUESTS = (5, 25, 100), 4.0, 50
ENDS_WITHIN = 180.0
"""Seconds for one rollout; one that needs longer is left to itself."""
HARMFUL = "wrong"


def roll_out(home: Home, images: Sequence[Path], harm: str = HARMFUL, workload: str = "pills") -> list[Path]:
    """Run a good candidate's rollout, then that of one with the fault `harm`, and print what happens; their timelines
    as HTML files."""
    found = []
    with Load(home, in_class_folders(images), workload) as load:
        for fault in ("none", harm):
            candidate = _candidate(home, workload, fault)
            click.echo(f"\nrollout of {candidate[:12]}: {FAULTS[fault]}")
            before = load.answered.total()
            journal = start(home, _spec(home, workload, candidate))
            follow(journal)
            told = f"{load.answered.total() - before:,} answers, {load.answered[candidate]:,} of them by the candidate"
            click.echo(f"  {told}; failed requests: {load.failed}")
            found.append(timeline(journal))
    return found


def _candidate(home: Home, workload: str, fault: str) -> str:
    """A registered copy of what is stable now."""
    stable = serving(home)[workload]
    private, _ = ensure_keys(home.keys)
    digest = faulty(verified(home, stable), fault, Store(str(home.objects)), private, note=f"demo, after {stable[:12]}")
    registry = Registry(home.registry)
    registry.register(workload, digest, f"{home.objects}/releases/{digest}", None, registry.find(stable).tags)
    return digest


def _spec(home: Home, workload: str, candidate: str) -> RolloutSpec:
    asked = Asked(
        workload=workload,
        candidate=candidate,
        weights=WEIGHTS,
        bake_seconds=BAKE_SECONDS,
        min_requests=MIN_REQUESTS,
        labels=False,
    )
    return made(home, asked).model_copy(update={"look_seconds": 1.0})


def follow(journal: Journal) -> None:
    """Print each change until the rollout has ended and everybody was told."""
    began, shown = time.monotonic(), ""
    while time.monotonic() - began < ENDS_WITHIN:
        spec, state = journal.load()
        step = f", step {state.step + 1} of {len(spec.steps)}" if state.step >= 0 else ""
        dose = f"{state.shadow} % copied" if state.shadow else f"{state.weight} %"
        line = f"{state.phase.value.replace('_', ' ')}{step}: {dose}"
        if line != shown:
            shown = line
            click.echo(f"  {time.monotonic() - began:5.1f} s  {line}  {state.reason}".rstrip())
        if state.ended and not state.notices:
            return
        time.sleep(0.1)
    click.echo(f"  it goes on: titrate rollout watch {journal.load()[0].workload}")
