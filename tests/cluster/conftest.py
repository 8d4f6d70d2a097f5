"""The Kubernetes that KUBECONFIG names, with KServe and Envoy Gateway on it; without one these tests do not run.

The image of the role serve must be on its nodes under the name that TITRATE_SERVE_IMAGE says; tests of the operator
need that of the role services under TITRATE_SERVICES_IMAGE, those of TrainJobs and RayJobs that of the role train under
TITRATE_TRAIN_IMAGE.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.config import Config
from core.objects import Store
from core.release import ModelSpec, seal
from core.signing import ensure_keys
from serving.triton.repository import write
from tests.tiny_network import tiny_network
from titrate import faults
from titrate.predict import HEADER, encode
from titrate.rollouts.checks import pictures

ROOT = Path(__file__).parents[2]
NAMESPACE = "titrate"
LABELS = ["a", "b", "c", "d"]
ORDER = (
    "test_chart.py",
    "test_jobs.py",
    "test_uninstall.py",
    "test_serving.py",
    "test_routes.py",
    "test_rollouts.py",
)
"""A promotion leaves another release in service: what wants the first one comes before."""

NEED_OPERATOR = ("test_uninstall.py", "test_rollouts.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In ORDER; loudly absent, never silently."""
    ours = iter(sorted((i for i in items if _is_ours(i)), key=lambda item: ORDER.index(item.path.name)))
    items[:] = [next(ours) if _is_ours(item) else item for item in items]
    for item in items:
        if not _is_ours(item):
            continue
        if not os.environ.get("KUBECONFIG"):
            item.add_marker(pytest.mark.skip(reason="KUBECONFIG names no cluster"))
        elif item.path.name in NEED_OPERATOR and not os.environ.get("TITRATE_SERVICES_IMAGE"):
            item.add_marker(pytest.mark.skip(reason="TITRATE_SERVICES_IMAGE names no image of the operator"))
        elif item.path.name == "test_jobs.py" and not os.environ.get("TITRATE_TRAIN_IMAGE"):
            item.add_marker(pytest.mark.skip(reason="TITRATE_TRAIN_IMAGE names no image of the steps"))


def _is_ours(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent


class Release(Config):
    """A release on this machine."""

    folder: str
    digest: str
    public_key: str


@dataclass(frozen=True)
class Cluster:
    """kubectl, and where the Gateway listens."""

    namespace: str

    def kubectl(self, *words: str, text: str | bytes | None = None, check: bool = True) -> str:
        """Standard output of one kubectl call in the namespace; an overlay (`-k`) names its own."""
        data = text.encode() if isinstance(text, str) else text
        command = ["kubectl", *([] if "-k" in words else ["--namespace", self.namespace]), *words]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def get(self, *words: str) -> Any:
        """One object, or a list of them."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
        """The first true value of `condition`; fails with the namespace's events when there is none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.5)
        events = self.kubectl("get", "events", "--sort-by", ".lastTimestamp")
        raise AssertionError(f"not in {seconds:.0f} s: {what}\n" + "\n".join(events.splitlines()[-15:]))

    @contextlib.contextmanager
    def loader(self) -> Iterator[None]:
        """A pod of the serving image with the volume claim at /objects, while the block runs."""
        self.kubectl("apply", "-f", "-", text=LOADER.format(image=os.environ["TITRATE_SERVE_IMAGE"]))
        try:
            self.kubectl("wait", "pod/loader", "--for=condition=Ready", "--timeout=90s")
            yield
        finally:
            self.kubectl("delete", "pod", "loader", "--grace-period=0", "--force", check=False)

    def upload(self, folder: str, target: str) -> None:
        """Copy a folder of this machine to the volume claim; needs `loader`."""
        packed = subprocess.run(
            ["tar", "-C", folder, "-c", *(p.name for p in Path(folder).iterdir())], capture_output=True, check=True
        )
        self.kubectl("exec", "loader", "--", "mkdir", "-p", target)
        self.kubectl("exec", "-i", "loader", "--", "tar", "--no-same-owner", "-xC", target, text=packed.stdout)

    def gateway(self) -> str:
        """`host:port` of the Gateway's listener: the node port of the Service that Envoy Gateway made for it."""
        label = f"gateway.envoyproxy.io/owning-gateway-namespace={self.namespace}"
        service = json.loads(
            subprocess.run(
                ["kubectl", "get", "services", "--all-namespaces", "-l", label, "-o", "json"],
                capture_output=True,
                check=True,
            ).stdout
        )["items"][0]
        node = self.get("nodes")["items"][0]
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        return f"{address}:{service['spec']['ports'][0]['nodePort']}"


LOADER = """
apiVersion: v1
kind: Pod
metadata: {{name: loader}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 10001, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: loader
      image: {image}
      command: [sleep, "600"]
      securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
      volumeMounts: [{{name: objects, mountPath: /objects}}]
  volumes:
    - {{name: objects, persistentVolumeClaim: {{claimName: titrate-objects}}}}
"""


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A signed release with a small network: what matters here is the way, not the accuracy."""
    home = tmp_path_factory.mktemp("release")
    folder = home / "release"
    folder.mkdir()
    spec = ModelSpec(
        workload="pills",
        labels=LABELS,
        image_size=32,
        precision="fp32",
        temperature=1.0,
        abstain_below=0.1,
        embedding_size=3,
        synthetic=True,
    )
    network = tiny_network(home / "network.onnx", size=32, classes=len(LABELS))
    write(folder, spec, network, [ROOT / "workloads" / "pills" / "preprocess.py"])
    (folder / "card.md").write_text("# A network of random weights\n")
    private, public = ensure_keys(home / "keys")
    return Release(folder=str(folder), digest=seal(folder, private), public_key=str(public))


@pytest.fixture(scope="session")
def candidates(release: Release, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """Releases that ask to serve: `good` and `better` are the same model, `failing` fails every third request."""
    store = Store(str(tmp_path_factory.mktemp("objects")))
    private, _ = ensure_keys(Path(release.public_key).parent)
    made = {}
    with pytest.MonkeyPatch.context() as patched:
        sooner = faults.CODE["failing"].replace(f"> {faults.CHECKED} ", "> 10 ")
        patched.setitem(faults.CODE, "failing", sooner.replace(f"% {faults.FAILING_EVERY} ", "% 3 "))
        for name, fault in (("good", "none"), ("better", "none"), ("failing", "failing")):
            digest = faults.faulty(Path(release.folder), fault, store, private, note=name)
            folder = store.fetch(f"releases/{digest}", tmp_path_factory.mktemp("candidates") / digest)
            made[name] = Release(folder=str(folder), digest=digest, public_key=release.public_key)
    return made


@pytest.fixture(scope="session")
def cluster(
    release: Release, candidates: dict[str, Release], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The local overlay with the releases and the images of this checkout, applied; removed at the end."""
    here = Cluster(NAMESPACE)
    copied = tmp_path_factory.mktemp("kustomize") / "kustomize"
    shutil.copytree(ROOT / "kustomize", copied)
    local = copied / "overlays" / "local"
    (local / "release.env").write_text(f"digest={release.digest}\n")
    shutil.copy(release.public_key, local / "signing.pub")
    images = []
    for role in ("serve", "services"):
        name, _, tag = os.environ.get(f"TITRATE_{role.upper()}_IMAGE", f"titrate/{role}:0.1.0").rpartition(":")
        images.append({"name": f"titrate/{role}", "newName": name, "newTag": tag})
    with (local / "kustomization.yaml").open("a") as file:
        file.write(f"images: {json.dumps(images)}\n")
    here.kubectl("apply", "-k", str(local))
    try:
        with here.loader():
            for one in (release, *candidates.values()):
                here.upload(one.folder, f"/objects/releases/{one.digest}")
        here.kubectl("delete", "pods", "-l", "serving.kserve.io/inferenceservice")  # those that waited for their files
        yield here
    finally:
        here.kubectl("delete", "-k", str(local), "--wait=true", "--timeout=120s", check=False)


@dataclass
class Load:
    """Clients that ask all the time, and what became of every request."""

    url: str
    threads: int = 3
    pause: float = 0.0
    """Seconds between two requests of a client."""
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By (status, or the error; arm; release)."""
    texts: Counter[str] = field(default_factory=Counter)
    """What failed answers said."""

    def __enter__(self) -> "Load":
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._running = [threading.Thread(target=self._ask) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    @property
    def total(self) -> int:
        """Requests so far."""
        with self._lock:
            return sum(self.answers.values())

    def forget(self) -> None:
        """Count from here on."""
        with self._lock:
            self.answers.clear()

    def lost(self) -> dict[tuple[str, str, str], int]:
        """Requests without a right answer, those that a broken candidate failed on purpose aside."""
        with self._lock:
            return {key: n for key, n in self.answers.items() if key[0] != "200" and key[:2] != ("500", "candidate")}

    def by_release(self) -> Counter[str]:
        """Right answers by the release that gave them."""
        with self._lock:
            return Counter({key[2]: n for key, n in self.answers.items() if key[0] == "200"})

    def _ask(self) -> None:
        body, length = encode(pictures(1, 0))
        with httpx.Client(timeout=20, trust_env=False) as client:
            while not self._stop.wait(self.pause):
                try:
                    answer = client.post(self.url, content=body, headers={HEADER: str(length)})
                except httpx.HTTPError as error:
                    self._note((type(error).__name__, "", ""), repr(error))
                    continue
                headers = answer.headers
                named = (
                    str(answer.status_code),
                    headers.get("x-titrate-arm", ""),
                    headers.get("x-titrate-release", ""),
                )
                self._note(named, "" if answer.is_success else answer.text[:200])

    def _note(self, key: tuple[str, str, str], text: str) -> None:
        with self._lock:
            self.answers[key] += 1
            self.texts[text] += bool(text)
