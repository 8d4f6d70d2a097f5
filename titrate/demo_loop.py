"""The end of the demo: other pills are asked about, then a camera breaks; the loop names both, and learns the camera.

Nobody is asked: the stack's own loop raises the alarms, begins the training when enough new photographs are there, and
hands the release to a rollout. What takes hours in production is compressed: an update a second, a look every two, no
cooldown. The limits, the promise of one false alarm in 90 days and the ladder are the usual ones.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import simplejpeg

from core.config import canonical_json
from core.errors import TemporaryError
from core.files import write_atomic
from core.home import Home
from serving.drift.cause import Cause
from titrate.demo_rollouts import BAKE_SECONDS, MIN_REQUESTS, WEIGHTS, follow
from titrate.load import Load
from titrate.loop import watch
from titrate.loop.jobs import Job, all_jobs
from titrate.loop.page import write_page
from titrate.loop.settings import folder
from titrate.loop.watch import Alarm
from titrate.rollouts.control import find, timeline
from titrate.simulate import Simulated, broken
from titrate.stack.state import serving
from workloads.pills.camera import Pixels, corrupt
from workloads.pills.render import QUALITY, Rendering, photographs

BLUR, COLOUR = 3, 3
"""Levels of what the camera does: out of focus, under another lamp."""
NEW = 60
"""New photographs of each class, by the broken camera."""
ALARM_WITHIN, TRAINED_WITHIN = 90.0, 420.0
SHOWN = 5.0
"""Seconds over which accuracy is measured before and after."""
Found = TypeVar("Found")


def close_the_loop(home: Home, source: Path, workload: str = "pills") -> list[Path]:
    """Inject a new mix and a broken camera, wait until the loop has answered; its rollout's timeline and its page.

    Raises TemporaryError where an answer does not come in time.
    """
    if any(job.status == "promoted" for job in all_jobs(home, workload)):
        click.echo("\nwhat serves has learned the broken camera already; `titrate loop history` tells how")
        return []
    learning = _prepare(home, source, workload)
    _another_mix(home, source, workload)
    images = [(_break(content), label) for content, label in broken(source, workload, Simulated())]
    click.echo(f"\nthe camera is out of focus (level {BLUR}) under another lamp (level {COLOUR})")
    with Load(home, images, workload) as load:
        alarm = _alarm(home, workload, Cause.CAMERA)
        click.echo(f"  alarm: {alarm.said}")
    click.echo(f"  {load.right / load.answered.total():.3f} of {load.answered.total():,} answers were right")
    added = _photograph(learning)
    click.echo(f"  {added} labelled photographs of that camera arrive; the loop decides")
    job = _wait(lambda: _rolling(home, workload), TRAINED_WITHIN, "a training that the loop began")
    click.echo(
        f"  trained again ({job.trigger}: {job.why}) as {str(job.release)[:12]}, on data {str(job.dataset)[:12]}"
    )
    journal = find(home, job.rollout or "")
    with Load(home, images, workload) as load:
        follow(journal)
    now = _after(home, images, workload)
    click.echo(f"  {now:.3f} of the answers are right; {serving(home)[workload][:12]} serves")
    return [timeline(journal), write_page(home, workload)]


def _prepare(home: Home, source: Path, workload: str) -> Path:
    """The growing data set, beside the one that is never changed, and a loop that does not wait for hours."""
    learning = home.root / "demo" / "growing"
    shutil.rmtree(learning, ignore_errors=True)
    shutil.copytree(source, learning, copy_function=os.link)
    changes = {
        "watch": {"every_seconds": 1.0},
        "retraining": {"look_hours": 2 / 3600, "min_new": 500, "cooldown_hours": 0.0},
        "source": str(learning),
        "rollout": {"weights": WEIGHTS, "bake_seconds": BAKE_SECONDS, "min_requests": MIN_REQUESTS},
    }
    write_atomic(folder(home, workload) / "settings.json", json.dumps(changes, indent=1))
    return learning


def _another_mix(home: Home, source: Path, workload: str) -> None:
    asked = min(path.name for path in source.iterdir() if path.is_dir())
    images = broken(source, workload, Simulated(only=(asked,)))
    _wait(lambda: watch.load(home, workload), ALARM_WITHIN, "the loop's first look")
    click.echo(f"\nonly {asked} is asked about")
    with Load(home, images, workload) as load:
        alarm = _alarm(home, workload, Cause.LABEL)
    click.echo(f"  alarm after {load.answered.total():,} answers: {alarm.said}")


def _break(content: bytes) -> bytes:
    image = simplejpeg.decode_jpeg(content, colorspace="RGB")
    taken = corrupt(corrupt(image, "blur", BLUR), "colour", COLOUR)
    return _jpeg(taken)


def _jpeg(image: Pixels) -> bytes:
    content: bytes = simplejpeg.encode_jpeg(image, quality=QUALITY, colorspace="RGB", colorsubsampling="420")
    return content


def _photograph(learning: Path) -> int:
    """Add new photographs by the broken camera to the data set, as a clinic would; how many."""
    before = Rendering.model_validate_json((learning / "dataset.json").read_text())
    each = before.images_per_class + NEW
    sessions = before.sessions * each // before.images_per_class
    wider = {"images_per_class": each, "sessions": sessions, "first": before.images_per_class}
    rows = []
    for row, image in photographs(before.model_copy(update=wider)):
        path = learning / row["path"]
        write_atomic(path, _break(_jpeg(image)))
        rows.append(canonical_json(row) + "\n")
    manifest = learning / "manifest.jsonl"
    write_atomic(manifest, manifest.read_text() + "".join(rows))
    return len(rows)


def _alarm(home: Home, workload: str, cause: Cause) -> Alarm:
    """The next alarm of that cause for what serves."""
    before = len(watch.alarms(home, workload))

    def raised() -> Alarm | None:
        new = watch.alarms(home, workload)[before:]
        return next((alarm for alarm in new if cause.value in alarm.causes), None)

    return _wait(raised, ALARM_WITHIN, f"an alarm that names a {cause.value}")


def _rolling(home: Home, workload: str) -> Job | None:
    """The job once its release is being rolled out."""
    jobs = all_jobs(home, workload)
    if jobs and jobs[-1].status == "failed":
        raise TemporaryError(f"the training failed: {jobs[-1].error}")
    return jobs[-1] if jobs and jobs[-1].rollout else None


def _after(home: Home, images: list[tuple[bytes, str]], workload: str) -> float:
    with Load(home, images, workload) as load:
        time.sleep(SHOWN)
    return load.right / max(1, load.answered.total())


def _wait(look: Callable[[], Found | None], seconds: float, what: str) -> Found:
    """What `look` finds; raises TemporaryError after `seconds`."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TemporaryError(
                f"{what} did not come in {seconds:g} s; `titrate loop status` and `titrate stack logs loop` say more"
            )
        time.sleep(0.2)
    return found
