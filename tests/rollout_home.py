"""A home whose releases are registered, whole rollouts on it, and clients that are patient as the SDK is."""

import contextlib
import itertools
import threading
import uuid
from collections import Counter

import httpx

from components.register.registry import CANDIDATE, STABLE, Registry
from core.objects import Store
from core.signing import ensure_keys
from core.slo import Slo
from serving.rollout.presets import preset
from serving.rollout.spec import Step
from tests.colours import LABELS
from tests.stack_home import Colours, until
from titrate.faults import faulty
from titrate.stack.control import status
from titrate.stack.releases import fetched
from titrate.stack.state import set_stable, wanted

WITHIN = 90.0
"""Seconds for one compressed rollout on a busy machine; 15 on an idle one."""
STEPS = (Step(shadow=20), Step(weight=10), Step(weight=50), Step(weight=100))


class Rolling(Colours):
    """A home whose releases are registered, with copies of the stable one that are broken in some way."""

    def __init__(self, root):
        super().__init__(root)
        self.stable = self.releases[0]
        self.registry = Registry(self.home.registry)
        version = self.register(self.stable).version
        self.registry.point("pills", STABLE, version)
        self.registry.remove_alias("pills", CANDIDATE)
        set_stable(self.home, "pills", self.stable)

    def register(self, digest):
        """Make it known to the registry."""
        return self.registry.register("pills", digest, "file://", None, {})

    def release(self, fault, note=""):
        """A registered copy of the stable release."""
        private, _ = ensure_keys(self.home.keys)
        store = Store(str(self.home.objects))
        digest = faulty(fetched(self.home, self.stable), fault, store, private, note)
        self.register(digest)
        return digest

    def spec(self, candidate, **changes):
        """Compressed: half a second between looks, a second of bake."""
        spec = preset(
            "canary",
            workload="pills",
            stable=wanted(self.home).stable["pills"],
            candidate=candidate,
            slo=Slo.load("pills"),
            labels=False,
        )
        quick = {"bake_seconds": 1.0, "min_requests": 30, "deadline_seconds": WITHIN}
        steps = tuple(step.model_copy(update=quick) for step in changes.pop("steps", STEPS))
        checks = tuple(check.model_copy(update={"requests": 3}) for check in spec.checks)
        return spec.model_copy(update={"steps": steps, "checks": checks, "look_seconds": 0.5, **changes})

    def state(self, journal):
        """Where a rollout is."""
        return journal.load()[1]

    def ended(self, journal):
        """The state at the end of a rollout."""
        return until(lambda: (state := self.state(journal)).ended and not state.notices and state, WITHIN)

    def pid(self, name):
        """The process of a service whose name begins so."""
        return next(service.pid for service in status(self.home) if service.name.startswith(name))


class Traffic:
    """Clients that ask without pause; a lost connection is tried again, as the SDK does, and fails the third time."""

    def __init__(self, rolling, clients=4):
        self.rolling, self.answers, self.failed = rolling, Counter(), []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self):
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                code, release, label = self._patiently(client)
                self.answers[code, label] += 1
                if code != 200:
                    self.failed.append((code, release))

    def _patiently(self, client, **how):
        for pause in (0.2, 1.0, 3.0):
            with contextlib.suppress(httpx.TransportError):
                return self.rolling.ask(client, **how)
            self._stop.wait(pause)
        return 0, "nobody answered", ""

    def check(self):
        """No wrong answer, and fewer than 0.1 % failed."""
        total = self.answers.total()
        assert {label for code, label in self.answers if code == 200} == {"blue"}
        assert len(self.failed) < total / 1000, (len(self.failed), total, self.failed[:5])


class Labelled(Traffic):
    """Clients that ask for every colour; where `said`, they say over the API what each answer should have been."""

    def __init__(self, rolling, said=True):
        super().__init__(rolling)
        self.said, self.by_release = said, Counter()

    def _ask(self):
        with httpx.Client(timeout=30) as client:
            waiting = []
            for colour in itertools.cycle(LABELS):
                if self._stop.is_set():
                    return
                request = uuid.uuid4().hex
                code, release, label = self._patiently(client, headers={"x-request-id": request}, colour=colour)
                self.by_release[code, release, label == colour] += 1
                waiting.append({"prediction_id": f"{request}-0", "label": colour})
                if self.said and len(waiting) == 30:
                    assert client.post(f"{self.rolling.url}/v1/labels", json={"labels": waiting}).is_success
                    waiting = []
