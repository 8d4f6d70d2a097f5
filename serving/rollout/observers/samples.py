"""Metrics as Prometheus knows them, from a Prometheus or straight from the pods that export them.

Straight from the pods a look sees what happened a second ago; a Prometheus that scrapes every 30 seconds makes a
rollback wait that long. Both give the same samples, by source: one process that counts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from core.errors import TemporaryError, UserError
from serving.rollout.cluster.kube import PODS, Kube

Json = dict[str, Any]
SECONDS = 1.5
"""Scrapes must fit into a look of two seconds."""


class Sample(NamedTuple):
    """One value of one series."""

    name: str
    labels: Mapping[str, str]
    value: float


class Sources(Protocol):
    """Who counts, and what they say."""

    def samples(self, names: tuple[str, ...], clusters: str) -> dict[str, list[Sample]]:
        """By source: the series of these names whose `envoy_cluster_name` matches the regular expression.

        Raises TemporaryError when a source does not answer.
        """


class Pods:
    """Envoy's pods of one Gateway, scraped."""

    def __init__(
        self, kube: Kube, http: httpx.Client, namespace: str, labels: Callable[[], Mapping[str, str]], port: int
    ) -> None:
        """`labels()`: of the pods in `namespace` that are scraped at `port`."""
        self._kube, self._http = kube, http
        self._namespace, self._labels, self._port = namespace, labels, port

    def samples(self, names: tuple[str, ...], clusters: str) -> dict[str, list[Sample]]:
        """Of every pod that has an address; a pod that does not answer is missed at this look, and made up for."""
        labels = self._labels()
        pods = self._kube.select(PODS, self._namespace, labels)
        found, failed = {}, ""
        for pod in pods:
            address, name = pod["status"].get("podIP"), pod["metadata"]["name"]
            try:
                found[name] = parsed(self._scrape(address), names, clusters) if address else []
            except httpx.HTTPError as error:
                failed = f"pod {name!r} at {address}:{self._port}: {error!r}"
        if not found:
            where = ",".join(f"{key}={value}" for key, value in labels.items())
            raise TemporaryError(failed or f"no pods of the gateway in {self._namespace!r} with {where}")
        return {name: samples for name, samples in found.items() if samples}

    def _scrape(self, address: str) -> str:
        answer = self._http.get(f"http://{address}:{self._port}/stats/prometheus", timeout=SECONDS)
        answer.raise_for_status()
        return answer.text


class Prometheus:
    """A Prometheus that scrapes them."""

    def __init__(self, http: httpx.Client, address: str) -> None:
        self._http, self._address = http, address.rstrip("/")

    def samples(self, names: tuple[str, ...], clusters: str) -> dict[str, list[Sample]]:
        """By the pod that was scraped; a series of another source has no part in it."""
        wanted = f'{{__name__=~"{"|".join(names)}",envoy_cluster_name=~"{_quoted(clusters)}"}}'
        found: dict[str, list[Sample]] = {}
        for labels, value in self.query(wanted):
            source = labels.get("pod") or labels.get("instance", "")
            found.setdefault(source, []).append(Sample(labels["__name__"], labels, value))
        return found

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of an instant query. Raises UserError when Prometheus refuses the query itself."""
        try:
            answer = self._http.get(f"{self._address}/api/v1/query", params={"query": text}, timeout=SECONDS)
        except httpx.HTTPError as error:
            raise TemporaryError(f"Prometheus {self._address} does not answer: {error!r}") from error
        if answer.status_code in {400, 422}:
            raise UserError(f"Prometheus refuses the query {text!r}: {answer.json().get('error', answer.text)}")
        if not answer.is_success:
            raise TemporaryError(f"Prometheus {self._address}: {answer.status_code}")
        data = answer.json()["data"]
        if data["resultType"] != "vector":
            raise UserError(f"the query {text!r} gives a {data['resultType']}, not a vector of counters")
        return [(item["metric"], float(item["value"][1])) for item in data["result"]]


def parsed(text: str, names: Iterable[str], clusters: str) -> list[Sample]:
    """The wanted series of an exposition of Envoy's."""
    pattern = re.compile(clusters)
    return [one for one in series(text, names) if pattern.fullmatch(one.labels.get("envoy_cluster_name", ""))]


def series(text: str, names: Iterable[str]) -> Iterator[Sample]:
    """The series of these names; only their lines are parsed, of the ten thousand that Envoy has."""
    wanted = tuple(f"{name}{{" for name in names)
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from (Sample(sample.name, sample.labels, sample.value) for sample in family.samples)


def _quoted(pattern: str) -> str:
    """A regular expression inside a PromQL string."""
    return pattern.replace("\\", "\\\\").replace('"', '\\"')
