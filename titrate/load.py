"""Clients that ask the stack without pause, as applications do: for the demo and for `titrate drift simulate`."""

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from core.events import prediction_id
from core.home import Home
from titrate.predict import HEADER, decode, encode
from titrate.stack.ports import home_ports

CLIENTS = 4
LABELS = 25
"""Labels that a client sends together."""


class Load:
    """Clients that ask without pause, as applications do: one image a request; then they say what it was."""

    def __init__(self, home: Home, images: Sequence[tuple[bytes, str]], workload: str, labels: bool = True) -> None:
        """`images`: content and class of each; with `labels`, clients tell what each was."""
        self._edge = f"http://127.0.0.1:{home_ports(home).internal}"
        self._url = f"{self._edge}/v2/models/{workload}/infer"
        self._asked = [(*encode([content]), label) for content, label in images]
        self._labels = labels
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        self.answered: Counter[str] = Counter()
        """By release."""
        self.failed = 0
        """Requests without an answer."""
        self.right = 0
        """Answers that named the class."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        import httpx

        labels: list[dict[str, str]] = []
        with httpx.Client(timeout=60, trust_env=False) as client:
            for body, length, label in itertools.islice(itertools.cycle(self._asked), number, None, CLIENTS):
                if self._stop.is_set():
                    return
                request = uuid.uuid4().hex
                answer = client.post(self._url, content=body, headers={HEADER: str(length), "x-request-id": request})
                if answer.is_success:
                    told = decode(answer.content, int(answer.headers[HEADER]))
                    self.answered[told["release"][0]] += 1
                    self.right += told["label"][0] == label
                    labels.append({"prediction_id": prediction_id(request, 0), "label": label})
                else:
                    self.failed += 1
                if len(labels) == LABELS:
                    if self._labels:
                        client.post(f"{self._edge}/v1/labels", json={"labels": labels})
                    labels.clear()


def in_class_folders(images: Sequence[Path]) -> list[tuple[bytes, str]]:
    """Content and class of files that lie in folders which are called as their classes."""
    return [(path.read_bytes(), path.parent.name) for path in images]
