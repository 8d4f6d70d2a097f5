"""Ray for one sweep: started on this machine and ended with the sweep, or the cluster's where RAY_ADDRESS names one.

Embedded, it has no dashboard, listens on the loopback address, reports nothing to anybody, and its processes end with
the driver, killed or not (Linux ends them). What a killed driver leaves is a folder, which the next sweep removes.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil

ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it listens on 127.0.0.1 alone, as on those; else on every interface
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_THRESHOLD_S": "60",
}
STORE_BYTES = 80_000_000
"""Ray's object store: a sweep passes numbers, and this is the least it starts with."""
PLACE = "ray.json"


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[dict[str, float]]:
    """Ray for the block; gives what it has: `CPU` in cores, `GPU` in devices."""
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own
        import ray

    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    remove_leftovers(folder)
    with _address(folder) as options:
        ray.init(log_to_driver=False, configure_logging=False, **options)
        try:
            yield dict(ray.cluster_resources())
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[dict[str, object]]:
    """How Ray is started: a short folder, because the path of a Unix socket may have 107 bytes."""
    if "RAY_ADDRESS" in os.environ:
        yield {}
        return
    place = Path(tempfile.mkdtemp(prefix="titrate-ray-"))
    (folder / PLACE).write_text(str(place))
    try:
        yield {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": len(os.sched_getaffinity(0)),
            "object_store_memory": STORE_BYTES,
            "_temp_dir": str(place),
        }
    finally:
        shutil.rmtree(place, ignore_errors=True)
        (folder / PLACE).unlink()


def remove_leftovers(folder: Path) -> None:
    """End what a killed driver of this sweep may have left: processes that name its Ray's folder, and the folder."""
    if not (folder / PLACE).exists():
        return
    place = (folder / PLACE).read_text()
    for process in psutil.process_iter(["cmdline"]):
        if any(place in word for word in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    shutil.rmtree(place, ignore_errors=True)
    (folder / PLACE).unlink()
