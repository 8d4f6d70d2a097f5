"""The candidate's server on the laptop: asked for in `serving.json`, run by the stack, seen in `state.json`."""

from core.errors import TemporaryError
from core.home import Home
from serving.rollout.observations import CandidateReport
from titrate.stack.releases import verified
from titrate.stack.services import server_name
from titrate.stack.state import Candidate, Serving, change, read_state


class StackServers:
    """Servers of one workload."""

    def __init__(self, home: Home, workload: str) -> None:
        self._home, self._workload = home, workload

    def start(self, release: str) -> None:
        """Ask the stack for a server of this release, once it verifies. Raises PermanentError, UserError."""
        verified(self._home, release)

        def started(now: Serving) -> Serving:
            asks = now.candidates.get(self._workload)
            if asks and asks.release == release:
                return now
            return now.model_copy(update={"candidates": {**now.candidates, self._workload: Candidate(release=release)}})

        change(self._home, started)

    def report(self, release: str) -> CandidateReport:
        """As the supervisor saw it last; raises TemporaryError when the stack is down."""
        state = read_state(self._home)
        if state is None:
            raise TemporaryError("the stack is not running")
        name = server_name(self._workload, release)
        found = next((service for service in state.services if service.name == name), None)
        if found is None:
            return CandidateReport(ready=False, reason="the stack has not started it")
        return CandidateReport(ready=found.state == "ready", restarts=found.ends, reason=found.detail)

    def stop(self, release: str) -> None:
        """Let the candidate go."""

        def stopped(now: Serving) -> Serving:
            kept = {w: asks for w, asks in now.candidates.items() if (w, asks.release) != (self._workload, release)}
            return now.model_copy(update={"candidates": kept})

        change(self._home, stopped)

    def retire(self, release: str) -> None:
        """Let the former stable release go."""

        def retired(now: Serving) -> Serving:
            kept = {w: former for w, former in now.kept.items() if (w, former) != (self._workload, release)}
            return now.model_copy(update={"kept": kept})

        change(self._home, retired)
