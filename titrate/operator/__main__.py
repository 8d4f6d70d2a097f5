"""The operator's process: credentials, the Lease, then kopf until it is told to stop."""

import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import kopf
from kopf._core.engines.peering import Identity

from core.logs import log_as_json
from titrate.operator import handlers
from titrate.operator.credentials import connected, credentials
from titrate.operator.keeper import Keeper
from titrate.operator.leader import RENEW, Lease
from titrate.operator.resource import Wanted
from titrate.operator.wiring import Ports, Settings, ports

logger = logging.getLogger("titrate.operator")
LOST = 75
"""Exit code when another operator holds the Lease: EX_TEMPFAIL."""
HEALTH = os.environ.get("TITRATE_HEALTH", "http://0.0.0.0:8081/healthz")


def main() -> None:
    """Run until SIGTERM."""
    log_as_json()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = Settings.of_environment()
    access = credentials()
    kube, web = connected(access), httpx.Client(trust_env=False)
    name = os.environ.get("POD_NAME", socket.gethostname())
    lease = Lease(kube, access.default_namespace or "default", name)
    while not lease.take():
        logger.info("another operator holds the lease")
        time.sleep(RENEW)
    stop = threading.Event()
    keeping = threading.Thread(target=lease.keep, args=(_lost, stop), name="lease")
    keeping.start()
    executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="asks")

    def made(wanted: Wanted, resource: dict[str, Any]) -> Ports:
        return ports(settings, kube, web, wanted, resource)

    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(credentials)
    handlers.register(registry, lambda: Keeper(settings.root, kube, made, executor, time.time))
    try:
        kopf.run(
            registry=registry,
            standalone=True,
            identity=Identity(name),  # else kopf asks for the user's name, and the image's user has none
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            liveness_endpoint=HEALTH,
        )
    finally:
        stop.set()
        keeping.join()
        lease.give_back()


def _lost() -> None:
    """Two operators must not act at once; what was begun goes on where the other one takes over."""
    logger.error("the lease is lost")
    os._exit(LOST)


if __name__ == "__main__":
    main()
