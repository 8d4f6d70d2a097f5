"""A real Prometheus (and Alertmanager) of Debian's packages in a folder, as long as a test wants it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from tests.promtool import tool


@contextlib.contextmanager
def running(folder: Path, programs: list[list[str]]) -> Iterator[None]:
    """The programs, with their words into `folder/log`."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        for words in programs:
            process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield


def command(folder: Path, port: int, config: dict[str, object]) -> list[str]:
    """Prometheus on that port; its data lie in `folder/data`."""
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    words = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    return [tool("prometheus"), *words]


def query(prometheus: str, text: str) -> list[dict]:
    """The series of an instant query, as the API gives them (metric: labels, value: time and text)."""
    try:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": text}, trust_env=False)
    except httpx.TransportError:
        return []
    assert answer.status_code != 400, answer.text
    return answer.json()["data"]["result"] if answer.is_success else []
