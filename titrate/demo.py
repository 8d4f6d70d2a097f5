"""The demo: rendered pills go the whole way of the data on the real engines, drift, and are learned again."""

import time
from pathlib import Path

import click

from core.home import Home
from titrate.configuration import configuration
from titrate.demo_loop import close_the_loop
from titrate.demo_rollouts import HARMFUL, roll_out
from titrate.faults import require
from titrate.predict import predict
from titrate.promote import settle
from titrate.run import add_rollouts, run
from titrate.stack.control import up
from titrate.tables import predictions_table, stack_table
from workloads.pills.render import write_folder

CLASSES, IMAGES, SESSIONS, SIZE, SEED = 12, 240, 120, 96, 7
"""Each sitting takes both sides of one pill."""
SHOWN = 6
LOADED = 200
"""Images that the clients of the rollouts ask about."""


def demo(home: Home, harm: str = HARMFUL) -> None:
    """Render, run, serve, predict; prints what happens and how long each part took.

    Raises UserError for an unknown fault `harm`."""
    require(harm)
    began = time.monotonic()
    source = home.root / "demo" / "pills"
    if not (source / "manifest.jsonl").exists():
        write_folder(source, CLASSES, IMAGES, SESSIONS, SIZE, SEED)
    click.echo(f"drew {CLASSES * IMAGES} images of {CLASSES} pills (synthetic) in {time.monotonic() - began:.0f} s")
    record = run(home, "pills", source, configuration("pills", "demo", None, ()), None)
    click.echo(settle(home, record.release or ""))
    click.echo(stack_table(up(home)))
    click.echo(predictions_table(predict(home, _examples(source))))
    timelines = roll_out(home, _examples(source, LOADED), harm)
    timelines += close_the_loop(home, source)
    add_rollouts(home, record, timelines)
    click.echo(f"\nthe whole demo took {time.monotonic() - began:.0f} s\nreport   {record.report}")
    click.echo("next     titrate predict IMAGE, titrate releases show pills:stable, titrate stack down")


def _examples(source: Path, count: int = SHOWN) -> list[Path]:
    images = sorted(source.rglob("*.jpg"))
    return images[:: max(1, len(images) // count)][:count]
