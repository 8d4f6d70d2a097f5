"""The one folder that Titrate writes to: `--home`, else `TITRATE_HOME`, else `./.titrate`."""

import os
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError


@dataclass(frozen=True)
class Home:
    """Where each thing lives below the home. Nothing is created until something is written."""

    root: Path

    @classmethod
    def find(cls, given: str | None = None) -> "Home":
        """The home to use. Raises UserError when it exists and is no folder one can write to."""
        root = Path(given or os.environ.get("TITRATE_HOME") or ".titrate").expanduser().absolute()
        place = next(p for p in (root, *root.parents) if p.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise UserError(f"cannot write to the home {str(root)!r}; choose another with --home or TITRATE_HOME")
        return cls(root)

    @property
    def objects(self) -> Path:
        """The laptop's object store: blobs, datasets, published releases."""
        return self.root / "objects"

    @property
    def releases(self) -> Path:
        """Fetched and verified releases, one folder a digest, that servers load from."""
        return self.root / "releases"

    @property
    def runs(self) -> Path:
        """One folder a run: configuration, reports, the pipeline's artefacts."""
        return self.root / "runs"

    @property
    def sweeps(self) -> Path:
        """One folder a sweep: what it searches, its trials, its result."""
        return self.root / "sweeps"

    @property
    def work(self) -> Path:
        """Unfinished work that a repeated command continues: checkpoints, drafts."""
        return self.root / "work"

    @property
    def cache(self) -> Path:
        """What can be made again from the rest: decoded images, compiled models."""
        return self.root / "cache"

    @property
    def keys(self) -> Path:
        """The signing key pair of this home."""
        return self.root / "keys"

    @property
    def stack(self) -> Path:
        """State, sockets and logs of the stack's processes."""
        return self.root / "stack"

    @property
    def registry(self) -> str:
        """MLflow's tracking URI."""
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def events(self) -> str:
        """Database of the feedback service: events and labels."""
        return f"sqlite:///{self.root / 'events.db'}"
