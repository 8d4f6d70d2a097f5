"""The registry: MLflow versions and aliases (no stages, X08), on SQLite (laptop) or a server (cluster)."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.config import Config
from core.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STABLE = "stable"
CANDIDATE = "candidate"


class Registered(Config):
    """One version of the registry: one release."""

    workload: str
    version: int
    digest: str
    uri: str
    aliases: tuple[str, ...]
    created_at: datetime
    tags: dict[str, str]

    @property
    def short(self) -> str:
        """The first twelve digits of the digest: how people name a release."""
        return self.digest[:12]


class Registry:
    """Releases by workload, at one MLflow tracking URI; UserError when the disk of the registry is full."""

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self._uri = tracking_uri
        with _room(tracking_uri):
            self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, workload: str, digest: str, uri: str, run: str | None, tags: Mapping[str, str]) -> Registered:
        """The version of release `digest`, made when it is not there yet; it becomes `candidate`."""
        with _room(self._uri):
            known = [found for found in self.releases(workload) if found.digest == digest]
            version = known[0].version if known else self._create(workload, digest, uri, run, tags)
            self.point(workload, CANDIDATE, version)
        return self._one(workload, version)

    def _create(self, workload: str, digest: str, uri: str, run: str | None, tags: Mapping[str, str]) -> int:
        if not self._client.search_registered_models(filter_string=f"name = '{workload}'"):
            self._client.create_registered_model(workload)
        made = self._client.create_model_version(workload, uri, run_id=run, tags={**tags, "digest": digest})
        return int(made.version)

    def releases(self, workload: str) -> list[Registered]:
        """All versions, newest first."""
        found = self._client.search_model_versions(f"name = '{workload}'")
        versions = sorted((int(version.version) for version in found), reverse=True)
        return [self._one(workload, version) for version in versions]

    def workloads(self) -> list[str]:
        """Names of the workloads that have a release."""
        return sorted(model.name for model in self._client.search_registered_models())

    def get(self, workload: str, alias: str) -> Registered | None:
        """The release an alias points to, or None."""
        return next((found for found in self.releases(workload) if alias in found.aliases), None)

    def find(self, name: str) -> Registered:
        """The release whose digest starts with `name`, or whose `workload:alias` or `workload:version` it is."""
        every = [found for workload in self.workloads() for found in self.releases(workload)]
        hits = [found for found in every if found.digest.startswith(name) or name in _names(found)]
        if len(hits) == 1:
            return hits[0]
        known = ", ".join(f"{found.workload}:{found.version} ({found.short})" for found in every) or "(none)"
        problem = "names more than one release" if hits else "is no release"
        raise UserError(f"{name!r} {problem}; registered: {known}")

    def point(self, workload: str, alias: str, version: int) -> None:
        """Make `alias` name this version, and no other."""
        self._client.set_registered_model_alias(workload, alias, str(version))

    def remove_alias(self, workload: str, alias: str) -> None:
        """Take an alias away; it may be missing."""
        if self.get(workload, alias):
            self._client.delete_registered_model_alias(workload, alias)

    def delete(self, release: Registered) -> None:
        """Remove a version from the registry; raises UserError while an alias names it."""
        if release.aliases:
            raise UserError(f"release {release.short} is {' and '.join(release.aliases)} of {release.workload!r}; kept")
        self._client.delete_model_version(release.workload, str(release.version))

    def _one(self, workload: str, version: int) -> Registered:
        return _registered(self._client.get_model_version(workload, str(version)))


@contextlib.contextmanager
def _room(uri: str) -> Iterator[None]:
    """Turns the refusal of a full disk, which MLflow wraps in one of many errors, into a UserError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        if "disk is full" in str(error):
            raise UserError(f"the registry {uri} is full; make room and try again") from error
        raise


def _names(found: Registered) -> set[str]:
    return {f"{found.workload}:{name}" for name in (*found.aliases, str(found.version))}


def _registered(version: "ModelVersion") -> Registered:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    tags = {str(key): str(value) for key, value in version.tags.items()}
    return Registered(
        workload=version.name,
        version=int(version.version),
        digest=tags.get("digest", ""),
        uri=version.source,
        aliases=tuple(sorted(version.aliases)),
        created_at=created,
        tags=tags,
    )
