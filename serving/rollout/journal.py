"""A rollout on disk: its decision log, the last state, and the commands that wait for the next look.

<root>/<workload>/<rollout>/decisions.jsonl   the truth
                            state.json        a shortcut: the state after some look; the rest is decided again
                            commands/<id>.json
                            lock              held by the process that reconciles
"""

import contextlib
import logging
import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from core.config import Config
from core.errors import PermanentError, UserError
from core.files import locked, write_atomic
from serving.rollout import decision_log
from serving.rollout.engine import Decision, decide
from serving.rollout.observations import Command, CommandName, Observation
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import RolloutState

logger = logging.getLogger(__name__)


class Snapshot(Config):
    """The state after the look that ends at `offset` bytes of the log."""

    offset: int
    state: RolloutState


class Journal:
    """One rollout's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "decisions.jsonl"

    @classmethod
    def create(cls, root: Path, spec: RolloutSpec) -> "Journal":
        """A new rollout. Raises UserError while another one of the same workload has not ended."""
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{spec.workload}.lock", f"another rollout of {spec.workload!r} is being started"):
            known = cls.all(root, spec.workload)
            for other in known:
                if not other.load()[1].ended:
                    raise UserError(f"rollout {other.id} of {spec.workload!r} has not ended; abort it, or wait")
            journal = cls(root / spec.workload / f"{len(known) + 1:04d}-{secrets.token_hex(3)}")
            decision_log.start(journal.log, spec, journal.id)
        return journal

    @classmethod
    def all(cls, root: Path, workload: str) -> list["Journal"]:
        """The rollouts of a workload, oldest first."""
        return [cls(log.parent) for log in sorted((root / workload).glob("*/decisions.jsonl"))]

    @property
    def id(self) -> str:
        """The rollout's name."""
        return self.folder.name

    @property
    def began(self) -> datetime:
        """When the rollout was started. Raises PermanentError when its first entry is missing."""
        return decision_log.began(self.log)

    def load(self) -> tuple[RolloutSpec, RolloutState]:
        """The spec and the state after the last logged look. Raises PermanentError when its start or end is missing."""
        spec, state = decision_log.opened(self.log)
        saved, offset = self.folder / "state.json", 0
        if saved.exists():
            snapshot = Snapshot.from_file(saved)
            state, offset = snapshot.state, snapshot.offset
        if offset > self.log.stat().st_size:
            raise PermanentError(f"rollout {self.id}: the end of {self.log.name} was removed")
        for seen in decision_log.after(self.log, offset):
            state = decide(spec, state, [seen]).state
        return spec, state

    def record(self, spec: RolloutSpec, seen: Observation, decision: Decision) -> None:
        """Log a look, then keep its state. Raises OSError, or TemporaryError where another process holds the log, when
        it could not be logged; then it did not happen."""
        decision_log.append(self.log, spec, seen, decision)
        with contextlib.suppress(OSError):  # the log has it; loading decides it again
            snapshot = Snapshot(offset=self.log.stat().st_size, state=decision.state)
            write_atomic(self.folder / "state.json", snapshot.model_dump_json())
        self._taken(seen.commands)

    def command(self, name: CommandName, by: str, step: int | None = None) -> Command:
        """Leave a command for the next look."""
        command = Command(id=secrets.token_hex(8), name=name, by=by, step=step)
        write_atomic(self.folder / "commands" / f"{command.id}.json", command.model_dump_json())
        return command

    def waiting(self) -> tuple[Command, ...]:
        """Commands that no look has taken, oldest first; a file that is none is put aside as `.refused`."""
        found = []
        for file in (self.folder / "commands").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # the loop took it while a command line looked
                age, text = file.stat().st_mtime_ns, file.read_text()
                try:
                    found.append((age, Command.from_json(text, file.name)))
                except UserError as error:
                    logger.warning("not a command", extra={"facts": {"file": file.name, "error": str(error)}})
                    file.rename(file.with_suffix(".refused"))
        return tuple(command for _, command in sorted(found, key=lambda pair: pair[0]))

    def _taken(self, commands: Iterable[Command]) -> None:
        for command in commands:
            (self.folder / "commands" / f"{command.id}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Reconcile alone. Raises UserError while another process does."""
        with locked(self.folder / "lock", f"rollout {self.id} is already being reconciled"):
            yield
