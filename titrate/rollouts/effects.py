"""What a rollout does outside routing, on the laptop: checks, webhooks, the registry's aliases, the audit log."""

import logging
from collections.abc import Callable

import httpx

from core.errors import PermanentError, TemporaryError
from core.home import Home
from serving.rollout.spec import Check, Confirm, RolloutSpec
from titrate.rollouts.checks import run_check
from titrate.stack.services import server_name
from titrate.stack.state import read_state

logger = logging.getLogger(__name__)
WEBHOOK_TIMEOUT = 5.0
"""Seconds for a webhook to answer."""
Move = Callable[[Home, RolloutSpec], None]


class StackEffects:
    """Effects of the rollouts of one home; `promoted` and `undo` move the aliases (titrate/promote.py)."""

    def __init__(self, home: Home, promoted: Move, undo: Move) -> None:
        self._home, self._promoted, self._undo = home, promoted, undo

    def check(self, check: Check, spec: RolloutSpec) -> str:
        """Ask the candidate's server alone; raises PermanentError."""
        return run_check(_candidate(self._home, spec), check, spec)

    def confirm(self, hook: Confirm, spec: RolloutSpec) -> bool:
        """Whether the webhook answers 2xx; one that does not answer has not said yes."""
        return _post(hook.url, {"before": hook.before, **_facts(spec)})

    def promoted(self, spec: RolloutSpec) -> None:
        """Move the aliases to the candidate, with an entry in the audit log."""
        self._promoted(self._home, spec)

    def undo_promotion(self, spec: RolloutSpec) -> None:
        """Move the aliases back."""
        self._undo(self._home, spec)

    def notify(self, event: str, text: str, spec: RolloutSpec) -> None:
        """Tell the log and the spec's webhooks; raises PermanentError naming those that did not take it."""
        logger.info(text, extra={"facts": {"event": event, **_facts(spec)}})
        told = {"event": event, "text": text, **_facts(spec)}
        if missed := [hook.name for hook in spec.informs if not _post(hook.url, told)]:
            raise PermanentError(f"webhooks that did not take the notice: {', '.join(missed)}")


def _candidate(home: Home, spec: RolloutSpec) -> str:
    state = read_state(home)
    name = server_name(spec.workload, spec.candidate)
    found = [service.address for service in state.services if service.name == name] if state else []
    if not found:
        raise TemporaryError("the candidate's server is not running")
    return found[0]


def _facts(spec: RolloutSpec) -> dict[str, str]:
    return {"workload": spec.workload, "stable": spec.stable, "candidate": spec.candidate}


def _post(url: str, facts: dict[str, str]) -> bool:
    try:
        return httpx.post(url, json=facts, timeout=WEBHOOK_TIMEOUT, trust_env=False).is_success
    except httpx.HTTPError:
        return False
