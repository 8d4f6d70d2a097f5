"""One ModelRollout over its whole life: its rollouts, one after the other, in a folder of the operator's volume.

    <root>/<namespace>/<name>.<uid>/<workload>/<rollout>/...    a journal (serving/rollout/journal.py)
                                               /resource.json  the ModelRollout's spec that this rollout runs by

A spec that was changed while a rollout runs waits until that one has ended: never silently mixed.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from core.config import canonical_json
from core.errors import TemporaryError, TitrateError, UserError
from core.files import locked, write_atomic
from serving.rollout.cluster.kube import Kind, Kube
from serving.rollout.journal import Journal
from serving.rollout.observations import CommandName
from serving.rollout.reconcile import Reconciler
from titrate.operator import status
from titrate.operator.resource import COMMAND, COMMAND_BY, GROUP, PLURAL, VERSION, Wanted, read
from titrate.operator.status import Fact
from titrate.operator.wiring import Ports, stored

logger = logging.getLogger(__name__)
Json = dict[str, Any]
ROLLOUTS = Kind(f"{GROUP}/{VERSION}", PLURAL)
COMMANDS: tuple[CommandName, ...] = ("pause", "resume", "abort", "promote", "retry", "approve")
IDLE_SECONDS = 10.0
"""Between looks at a resource whose rollout has ended."""


class Keeper:
    """Called by one thread, turn by turn; `resource` is the object as the API server last told it."""

    def __init__(
        self,
        root: Path,
        kube: Kube,
        ports: Callable[[Wanted, Json], Ports],
        executor: Executor,
        clock: Callable[[], float],
    ) -> None:
        self._root, self._kube, self._ports = root, kube, ports
        self._executor, self._clock = executor, clock
        self._running: Reconciler | None = None
        self._held = ExitStack()
        self._told: Json = {}

    def turn(self, resource: Json) -> float:
        """One look, or the start of a rollout; returns the seconds until the next."""
        if self._running is None:
            self._running = self._open(resource)
        facts = self._obey(resource)
        if self._running is None or self._may_start(resource):
            facts += self._begin(resource)
        if self._running is None:
            self._tell(resource, {}, facts)
            return 1.0
        self._look(resource, facts)
        return IDLE_SECONDS if self._running.done else self._running.spec.look_seconds

    def close(self) -> None:
        """Let another process go on."""
        self._held.close()
        self._running = None

    def refuse(self, resource: Json, why: str) -> None:
        """Say why nothing can be done."""
        self._tell(resource, {}, [Fact("Accepted", "False", "Refused", why)])

    def end(self, resource: Json) -> bool:
        """Bring traffic back to stable because the resource is being deleted; whether that is done."""
        if self._running is None:
            self._running = self._open(resource)
        if self._running is None:
            return self._end_without_journal(resource)
        state = self._running.state
        if not state.ended and state.reason == "" and not self._running.journal.waiting():
            self._running.journal.command("abort", "the deletion of the resource")
        self._look(resource, [Fact("Progressing", "True", "Deleting", "the resource is being deleted")])
        return self._running.state.ended

    def _end_without_journal(self, resource: Json) -> bool:
        """The decision log is lost: what the status says must do."""
        shown = resource.get("status", {})
        if shown.get("stableSpec") and shown.get("phase") not in {"promoted", "rolled_back", "completed"}:
            router, servers, *_ = self._ports(read(resource["spec"]), resource)
            router.restore(shown["stableSpec"])
            servers.stop(shown["candidate"])
        return True

    def _place(self, resource: Json) -> Path:
        metadata = resource["metadata"]
        return self._root / str(metadata["namespace"]) / f"{metadata['name']}.{metadata['uid']}"

    def _journals(self, resource: Json) -> list[Journal]:
        logs = self._place(resource).glob("*/*/decisions.jsonl")
        return [Journal(log.parent) for log in sorted(logs, key=lambda log: log.stat().st_ctime_ns)]

    def _open(self, resource: Json) -> Reconciler | None:
        """The last rollout of this resource, held; None before the first."""
        journals = self._journals(resource)
        if not journals:
            return None
        journal = journals[-1]
        self._held.enter_context(journal.held())
        spec = stored(journal.folder) or dict(resource["spec"])
        return Reconciler(journal, self._ports(read(spec), resource), self._clock, self._executor)

    def _may_start(self, resource: Json) -> bool:
        running = self._running
        if running is None or not running.done:
            return False
        return self._differs(running, resource)

    def _differs(self, running: Reconciler, resource: Json) -> bool:
        known = stored(running.journal.folder)
        return known is not None and canonical_json(known) != canonical_json(dict(resource["spec"]))

    def _begin(self, resource: Json) -> list[Fact]:
        """Start what the resource asks for; the facts say why not."""
        try:
            spec = dict(resource["spec"])
            wanted = read(spec)
            ports = self._ports(wanted, resource)
            rollout = wanted.rollout(ports.release())
            ports.check(rollout)
            with locked(self._root / resource["metadata"]["namespace"] / ".lock", "another rollout is being started"):
                self._alone(resource, wanted)
                self.close()
                journal = Journal.create(self._place(resource), rollout)
                write_atomic(journal.folder / "resource.json", canonical_json(spec))
        except TemporaryError as error:
            return [Fact("Accepted", "Unknown", "Waiting", str(error))]
        except TitrateError as error:
            return [Fact("Accepted", "False", "Refused", str(error))]
        self._held.enter_context(journal.held())
        self._running = Reconciler(journal, ports, self._clock, self._executor)
        logger.info("a rollout begins", extra={"facts": {"rollout": journal.id, "workload": wanted.workload}})
        return []

    def _alone(self, resource: Json, wanted: Wanted) -> None:
        """Raise UserError while another resource of the namespace moves the same workload's traffic, or route."""
        own, namespace = self._place(resource), resource["metadata"]["namespace"]
        for folder in (self._root / namespace).glob("*.*"):
            if folder == own or not folder.is_dir():
                continue
            name, _, uid = folder.name.rpartition(".")
            other = self._kube.get(ROLLOUTS, namespace, name)
            if other is None or other["metadata"]["uid"] != uid:
                continue
            for journal in self._journals(other)[-1:]:
                theirs = read(stored(journal.folder) or other["spec"])
                if not journal.load()[1].ended and _meet(wanted, theirs):
                    raise UserError(
                        f"ModelRollout {name!r} already moves the traffic of {theirs.workload!r}; it has not ended: "
                        f"abort it (kubectl annotate modelrollout {name} {COMMAND}=abort), or wait"
                    )

    def _obey(self, resource: Json) -> list[Fact]:
        """Hand a command in the annotations to the rollout, once."""
        notes = resource["metadata"].get("annotations", {})
        name = notes.get(COMMAND)
        if not name:
            return []
        metadata = resource["metadata"]
        self._kube.merge(
            ROLLOUTS, metadata["namespace"], metadata["name"], {"metadata": {"annotations": {COMMAND: None}}}
        )
        known = next((word for word in COMMANDS if word == name), None)
        if known is None or self._running is None:
            why = f"unknown command {name!r}; known: {', '.join(COMMANDS)}" if self._running else "no rollout runs"
            return [Fact("Commanded", "False", "Refused", why)]
        self._running.journal.command(known, notes.get(COMMAND_BY, "kubectl"))
        return [Fact("Commanded", "True", "Taken", f"{known} by {notes.get(COMMAND_BY, 'kubectl')}")]

    def _look(self, resource: Json, facts: list[Fact]) -> None:
        running = self._running
        assert running is not None  # nosec B101 # the callers have one
        if not running.done or running.journal.waiting():
            running.look()
        seen, decision = running.last or (None, None)
        found = decision.findings if decision else ()
        told = status.facts(running.state, seen, self._kube.forbidden)
        if self._differs(running, resource) and not running.done:
            why = (
                f"the spec was changed while rollout {running.journal.id} runs; it goes on by its own, and "
                f"the new one starts when it has ended (kubectl annotate modelrollout {resource['metadata']['name']} "
                f"{COMMAND}=abort ends it now)"
            )
            told = [Fact("Accepted", "False", "Changed", why), *told[1:]]
        given = {fact.type for fact in facts}
        shown = status.of(running.spec, running.state, seen, found)
        self._tell(resource, shown, [*facts, *(fact for fact in told if fact.type not in given)])

    def _tell(self, resource: Json, shown: Json, facts: list[Fact]) -> None:
        """Write the status where it changed."""
        metadata = resource["metadata"]
        known = resource.get("status", {}).get("conditions", self._told.get("conditions", []))
        conditions = status.merged(self._told.get("conditions", known), facts, metadata["generation"])
        new = {**shown, "observedGeneration": metadata["generation"], "conditions": conditions}
        if new == self._told:
            return
        try:
            self._kube.merge(ROLLOUTS, metadata["namespace"], metadata["name"], {"status": new}, "status")
            self._told = new
        except TitrateError as error:
            logger.warning("the status was not written", extra={"facts": {"error": str(error)}})


def _meet(one: Wanted, other: Wanted) -> bool:
    """Whether two rollouts would move the same traffic."""
    return one.workload == other.workload or one.route == other.route
