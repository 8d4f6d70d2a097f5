"""Pipelines on Kubeflow: submitted to a KFP API and watched there, through KFP's own client.

Credentials are as KFP's SDK takes them: a token in TITRATE_KFP_TOKEN, or in the file that KF_PIPELINES_SA_TOKEN_PATH
names (in a pod); a session's cookies in TITRATE_KFP_COOKIES (Dex, oauth2-proxy).
"""

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from core.config import Config
from core.errors import PermanentError, TemporaryError, TitrateError, UserError

if TYPE_CHECKING:
    import kfp
    from kfp_server_api import ApiException, GooglerpcStatus, V2beta1Run

    from pipelines.platform import Platform

TOKEN, COOKIES, TOKEN_FILE = "TITRATE_KFP_TOKEN", "TITRATE_KFP_COOKIES", "KF_PIPELINES_SA_TOKEN_PATH"  # nosec B105 # names
HEALTH = "/apis/v2beta1/healthz"
POLL_SECONDS, PATIENCE = 10.0, 30
REFUSED = (401, 403)


class TaskStatus(Config):
    """One task of a run."""

    name: str
    state: str
    """KFP's: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELED, PAUSED; empty before it has one."""
    error: str = ""


class RunStatus(Config):
    """One run, as KFP tells it."""

    id: str
    name: str
    state: str
    created: datetime | None
    error: str = ""
    tasks: tuple[TaskStatus, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}


class Kubeflow:
    """The KFP API of one platform."""

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform

    def submit(self, workload: str, source: str, config: Config, name: str) -> str:
        """Start a run on `source`; returns its id. Raises UserError, TemporaryError."""
        with self._compiled(workload, config) as file, self._asked() as client:
            run = client.create_run_from_pipeline_package(
                str(file),
                arguments=_arguments(source, config),
                run_name=name,
                experiment_name=self._platform.experiment,
                namespace=self._platform.namespace,
                service_account=self._platform.service_account,
            )
        return str(run.run_id)

    def schedule(self, workload: str, source: str, config: Config, name: str, cron: str) -> str:
        """Run it again and again; `cron` has six fields, seconds first. Returns the schedule's id."""
        with self._compiled(workload, config) as file, self._asked() as client:
            experiment = client.create_experiment(self._platform.experiment, namespace=self._platform.namespace)
            made = client.create_recurring_run(
                experiment.experiment_id,
                name,
                cron_expression=cron,
                no_catchup=True,  # a run that was missed is made up for by the next
                params=_arguments(source, config),
                pipeline_package_path=str(file),
                service_account=self._platform.service_account,
            )
        return str(made.recurring_run_id)

    def status(self, run: str) -> RunStatus:
        """Where a run is. Raises UserError for one that KFP does not know."""
        with self._asked(f"run {run!r}") as client:
            return _status(client.get_run(run))

    def runs(self, newest: int) -> list[RunStatus]:
        """The newest runs, without their tasks."""
        with self._asked() as client:
            found = client.list_runs(
                page_size=newest, sort_by="created_at desc", namespace=self._platform.namespace
            ).runs
            return [_status(run) for run in found or []]

    def wait(self, run: str) -> Iterator[RunStatus]:
        """Each state that differs from the one before, until the run has ended.

        An API that is away is asked again; raises TemporaryError after PATIENCE times in a row.
        """
        before, away = None, 0
        while before is None or not before.ended:
            try:
                now, away = self.status(run), 0
            except TemporaryError:
                away += 1
                if away == PATIENCE:
                    raise
            else:
                if now != before:
                    yield now
                before = now
            time.sleep(POLL_SECONDS)

    @contextlib.contextmanager
    def _compiled(self, workload: str, config: Config) -> Iterator[Path]:
        from pipelines.compile import write_ir

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{workload}.yaml"
            write_ir(workload, file, self._platform, config.model_dump_json())
            yield file

    @contextlib.contextmanager
    def _asked(self, what: str = "") -> Iterator["kfp.Client"]:
        """KFP's client, its errors turned into ours; `what` names what is asked for."""
        token, cookies = _token(), os.environ.get(COOKIES)
        endpoint = self._platform.endpoint
        _check(endpoint, token, cookies)
        import kfp
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it says that it needs KFP 2
            client = kfp.Client(
                host=endpoint,
                existing_token=token,
                cookies=cookies,
                namespace=self._platform.namespace or "kubeflow",
            )
        try:
            with contextlib.redirect_stdout(sys.stderr):  # its links into the dashboard are for people
                yield client
        except ApiException as error:
            raise _told(endpoint, error, what) from error
        except HTTPError as error:
            raise TemporaryError(f"the KFP API at {endpoint} broke off: {error}") from error


def _arguments(source: str, config: Config) -> dict[str, str]:
    return {"source": source, "config": config.model_dump_json()}


def _token() -> str | None:
    token, file = os.environ.get(TOKEN), os.environ.get(TOKEN_FILE)
    if token or not file:
        return token
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        raise UserError(f"{TOKEN_FILE} names {file!r}, which cannot be read: {error.strerror}") from error


def _check(endpoint: str, token: str | None, cookies: str | None) -> None:
    """One question first: KFP's client asks five times, with a traceback each, before it gives up."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= {"cookie": cookies} if cookies else {}
    try:
        answer = httpx.get(endpoint.rstrip("/") + HEALTH, headers=headers, timeout=10)
    except httpx.HTTPError as error:
        raise TemporaryError(f"the KFP API at {endpoint} does not answer: {error}") from error
    if answer.status_code in REFUSED or answer.has_redirect_location:
        raise UserError(
            f"the KFP API at {endpoint} wants to know who asks ({answer.status_code}); set {TOKEN} to a token or "
            f"{COOKIES} to the cookies of a session"
        )
    if not answer.is_success or "json" not in answer.headers.get("content-type", ""):
        raise UserError(f"{endpoint} is no KFP API: {HEALTH} gives {answer.status_code}; is `/pipeline` missing?")


def _told(endpoint: str, error: "ApiException", what: str) -> TitrateError:
    message = " ".join(str(error.body or error.reason).split())[:300]
    if error.status in REFUSED:
        return UserError(f"the KFP API at {endpoint} refuses this: {message}")
    if error.status == httpx.codes.NOT_FOUND and what:
        return UserError(f"the KFP API at {endpoint} knows no {what}")
    if error.status and error.status < httpx.codes.INTERNAL_SERVER_ERROR:
        return PermanentError(f"the KFP API at {endpoint} refuses this: {message}")
    return TemporaryError(f"the KFP API at {endpoint} cannot do this now: {message}")


def _status(run: "V2beta1Run") -> RunStatus:
    details = run.run_details.task_details if run.run_details else None
    tasks = [
        TaskStatus(name=task.display_name or "", state=task.state or "", error=_message(task.error))
        for task in details or []
    ]
    return RunStatus(
        id=run.run_id,
        name=run.display_name or "",
        state=run.state or "PENDING",
        created=run.created_at,
        error=_message(run.error),
        tasks=tuple(tasks),
    )


def _message(error: "GooglerpcStatus | None") -> str:
    return str(error.message or "") if error else ""
