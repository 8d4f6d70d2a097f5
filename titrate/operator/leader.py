"""One operator at a time: a Lease, renewed while it works. Whoever cannot renew it stops, before another may start.

The name of the pod is the holder: a container that was killed and started again in its pod goes on at once.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from core.errors import TitrateError
from serving.rollout.cluster.kube import LEASES, Kube

logger = logging.getLogger(__name__)
Json = dict[str, Any]
NAME = "titrate-operator"
LASTS = 8
"""Seconds without renewal after which another operator takes over."""
RENEW = 2.0
GIVES_UP = 6.0
"""Seconds without a renewal after which the holder stops: before the Lease runs out."""


class Lease:
    """The Lease of one installation, in the operator's namespace."""

    def __init__(self, kube: Kube, namespace: str, holder: str, now: Callable[[], float] = time.time) -> None:
        self._kube, self._namespace, self._holder, self._now = kube, namespace, holder, now
        self._seen: tuple[str, float] = ("", 0.0)

    def take(self) -> bool:
        """Take or renew it; False while another holds it.

        Another's renewal is timed by when it was seen here, so that clocks need not agree.
        """
        lease = self._kube.get(LEASES, self._namespace, NAME)
        if lease is None:
            self._kube.create(LEASES, self._namespace, self._body({"metadata": {"name": NAME}}))
            return self._mine(self._kube.get(LEASES, self._namespace, NAME))
        if not self._mine(lease) and not self._ran_out(lease):
            return False
        self._kube.replace(LEASES, self._namespace, self._body(lease))
        return True

    def give_back(self) -> None:
        """Let the next one start at once."""
        lease = self._kube.get(LEASES, self._namespace, NAME)
        if lease is not None and self._mine(lease):
            lease["spec"] = {**lease["spec"], "holderIdentity": ""}
            self._kube.replace(LEASES, self._namespace, lease)

    def keep(self, lost: Callable[[], None], stop: threading.Event) -> None:
        """Renew until `stop`; calls `lost` when it could not be renewed in time."""
        renewed = time.monotonic()
        while not stop.wait(RENEW):
            try:
                held = self.take()
            except TitrateError as error:
                logger.warning("the lease was not renewed", extra={"facts": {"error": str(error)}})
                held = time.monotonic() - renewed < GIVES_UP
            else:
                renewed = time.monotonic()
            if not held:
                lost()
                return

    def _mine(self, lease: Json | None) -> bool:
        return lease is not None and lease["spec"].get("holderIdentity") == self._holder

    def _ran_out(self, lease: Json) -> bool:
        spec = lease["spec"]
        if not spec.get("holderIdentity"):
            return True
        mark = f"{spec['holderIdentity']} {spec.get('renewTime')}"
        if mark != self._seen[0]:
            self._seen = (mark, self._now())
        return self._now() - self._seen[1] > float(spec.get("leaseDurationSeconds", LASTS))

    def _body(self, lease: Json) -> Json:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        known = lease.get("spec", {})
        changed = known.get("holderIdentity") != self._holder
        spec = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": LASTS,
            "acquireTime": now if changed else known.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(known.get("leaseTransitions", 0)) + (1 if known and changed else 0),
        }
        return {"apiVersion": LEASES.api, "kind": "Lease", **lease, "spec": spec}
