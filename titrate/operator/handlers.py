"""What kopf calls: one daemon for each ModelRollout, and its deletion, held up by a finalizer until stable is back.

kopf lists and watches, keeps the finalizer and starts the daemons again after a restart; `keeper` does the rest.
"""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from core.errors import TitrateError, UserError
from titrate.operator.keeper import Keeper
from titrate.operator.resource import COMMAND, GROUP, PLURAL, VERSION

logger = logging.getLogger(__name__)
Json = dict[str, Any]
POLL = 0.2
"""Seconds: how soon a changed resource is noticed between two looks; nothing is asked for it, kopf watches."""
RETRY = 1.0
ENDING = 20.0
"""Seconds that one call waits for stable: what an action reported is in the memory of the keeper that did it."""


def register(registry: kopf.OperatorRegistry, keeper: Callable[[], Keeper]) -> None:
    """Add the handlers; `keeper()` makes one for a resource."""

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.persistence.finalizer = f"{GROUP}/restore-stable"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"kopf.{GROUP}")
        settings.posting.enabled = False  # events are the rollout's own
        settings.scanning.disabled = True  # no permission to watch namespaces and definitions is needed
        settings.execution.max_workers = 64  # one thread for each ModelRollout
        settings.batching.worker_limit = 16
        settings.background.instant_exit_timeout = 2.0  # else a deletion waits for the cancellation_timeout

    @kopf.daemon(GROUP, VERSION, PLURAL, registry=registry, cancellation_timeout=5)
    def keep(stopped: kopf.DaemonStopped, body: kopf.Body, **_: Any) -> None:
        own = keeper()
        try:
            while not stopped:
                _wait(stopped, body, _turn(own, body))
        finally:
            own.close()

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=registry)
    def restore(body: kopf.Body, **_: Any) -> None:
        own = keeper()
        try:
            done = any(own.end(_plain(body)) for _ in _looks(ENDING))
        except TitrateError as error:
            raise kopf.TemporaryError(str(error), delay=RETRY) from error
        finally:
            own.close()
        if not done:
            raise kopf.TemporaryError("traffic goes back to stable", delay=RETRY)


def _looks(seconds: float) -> Iterator[None]:
    """So long, a look every POLL seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(POLL)


def _turn(own: Keeper, body: kopf.Body) -> float:
    try:
        return own.turn(_plain(body))
    except UserError as error:
        own.refuse(_plain(body), str(error))
    except TitrateError as error:
        logger.warning("will be tried again", extra={"facts": {"error": str(error)}})
    return RETRY


def _wait(stopped: kopf.DaemonStopped, body: kopf.Body, seconds: float) -> None:
    """Until the next look, or until a person changed something."""
    end, before = time.monotonic() + seconds, _mark(body)
    while not stopped and time.monotonic() < end and _mark(body) == before:
        stopped.wait(min(POLL, max(end - time.monotonic(), 0)))


def _mark(body: kopf.Body) -> tuple[Any, Any]:
    return body["metadata"].get("generation"), body["metadata"].get("annotations", {}).get(COMMAND)


def _plain(body: kopf.Body) -> Json:
    """The resource as it is now; kopf's view changes under one's hands."""
    return dict(body)
