"""The demo's rollouts: under real load a good candidate is promoted 5/25/100, then a harmful one is rolled back.

Both are copies of the stable release (titrate/faults.py). What takes days in production is compressed here: seconds of
bake and tens of answers for each step, the same alpha, so that the harm must be large enough to be seen in a minute.
Labels come at once, as from a pharmacist who checks every answer.
"""

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from components.register.registry import Registry
from core.events import prediction_id
from core.home import Home
from core.objects import Store
from core.signing import ensure_keys
from serving.rollout.journal import Journal
from serving.rollout.spec import RolloutSpec
from titrate.faults import FAULTS, faulty
from titrate.predict import HEADER, decode, encode
from titrate.rollouts.control import start, timeline
from titrate.rollouts.specs import Asked, made
from titrate.stack.ports import home_ports
from titrate.stack.releases import verified
from titrate.stack.state import serving

CLIENTS = 4
WEIGHTS, BAKE_SECONDS, MIN_REQUESTS = (5, 25, 100), 4.0, 50
ENDS_WITHIN = 180.0
"""Seconds for one rollout; one that needs longer is left to itself."""
HARMFUL = "wrong"
LABELS = 25
"""Labels that a client sends together."""


class Load:
    """Clients that ask without pause, as applications do: one image a request; then they say what it was."""

    def __init__(self, home: Home, images: Sequence[Path], workload: str) -> None:
        """`images` lie in folders that are called as their classes."""
        self._edge = f"http://127.0.0.1:{home_ports(home).internal}"
        self._url = f"{self._edge}/v2/models/{workload}/infer"
        self._asked = [(*encode([path.read_bytes()]), path.parent.name) for path in images]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        self.answered: Counter[str] = Counter()
        """By release."""
        self.failed = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        import httpx

        labels: list[dict[str, str]] = []
        with httpx.Client(timeout=60, trust_env=False) as client:
            for body, length, label in itertools.islice(itertools.cycle(self._asked), number, None, CLIENTS):
                if self._stop.is_set():
                    return
                request = uuid.uuid4().hex
                answer = client.post(self._url, content=body, headers={HEADER: str(length), "x-request-id": request})
                if answer.is_success:
                    self.answered[decode(answer.content, int(answer.headers[HEADER]))["release"][0]] += 1
                    labels.append({"prediction_id": prediction_id(request, 0), "label": label})
                else:
                    self.failed += 1
                if len(labels) == LABELS:
                    client.post(f"{self._edge}/v1/labels", json={"labels": labels})
                    labels.clear()


def roll_out(home: Home, images: Sequence[Path], harm: str = HARMFUL, workload: str = "pills") -> list[Path]:
    """Run a good candidate's rollout, then that of one with the fault `harm`, and print what happens; their timelines
    as HTML files."""
    found = []
    with Load(home, images, workload) as load:
        for fault in ("none", harm):
            candidate = _candidate(home, workload, fault)
            click.echo(f"\nrollout of {candidate[:12]}: {FAULTS[fault]}")
            before = load.answered.total()
            journal = start(home, _spec(home, workload, candidate))
            _follow(journal)
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


def _follow(journal: Journal) -> None:
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
