"""Releases on the way from the object store to a server: fetched when missing, never served unverified."""

import fcntl
from pathlib import Path

from core.home import Home
from core.objects import Store
from core.release import verify
from core.signing import PUBLIC_KEY


def verified(home: Home, digest: str) -> Path:
    """The folder of a release whose every file was just checked; fetched from the home's store when it is not here.

    Raises PermanentError, naming the file, when it is not what was signed; UserError when it is nowhere.
    """
    folder = fetched(home, digest)
    verify(folder, digest, home.keys / PUBLIC_KEY)
    return folder


def fetched(home: Home, digest: str) -> Path:
    """The folder of a release, copied from the store by whoever comes first; the others wait. Raises UserError."""
    folder = home.releases / digest
    if not folder.exists():
        home.releases.mkdir(parents=True, exist_ok=True)
        with (home.releases / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                Store(str(home.objects)).fetch(f"releases/{digest}", folder)
    return folder
