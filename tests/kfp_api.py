"""A KFP API in memory, over HTTP: as much of its v2beta1 REST face as KFP's own client asks for. No task ever runs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"


class KfpApi:
    """What it was told."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.refuses: int | None = None
        """The status that every question after the first gets."""
        self.url = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        """(status, JSON)."""
        _, _, kind, *rest = path.strip("/").split("/")
        if kind == "healthz":
            return 200, {"multi_user": True}
        if self.refuses:
            return self.refuses, {"error": "no", "message": "not today"}
        kept = {"experiments": self.experiments, "runs": self.runs, "recurringruns": self.recurring}[kind]
        if method == "POST":
            name = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}[kind]
            made = body | {name: f"{kind}-{len(kept) + 1}", "created_at": "2026-01-02T03:04:05Z"}
            kept[made[name]] = made
            return 200, made
        if rest:
            return (200, kept[rest[0]]) if rest[0] in kept else (404, {"message": "not found"})
        return 200, {kind: self._listed(list(kept.values()), query)}

    @staticmethod
    def _listed(items: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
        asked = json.loads(query.get("filter", ["{}"])[0])
        names = {one["stringValue"] for one in asked.get("predicates", [])}
        return [item for item in items if not names or item["display_name"] in names]


@contextmanager
def kfp_api(token: str | None = None) -> Iterator[KfpApi]:
    """One that listens on a free port of the loopback."""
    state = KfpApi(token)

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            at = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if state.token and self.headers.get("authorization") != f"Bearer {state.token}":
                self._say(401, {"message": "who are you?"})
            elif not at.path.startswith(API):
                self._say(404, {})
            else:
                self._say(*state.answer(self.command, at.path, parse_qs(at.query), json.loads(body or b"{}")))

        def _say(self, status: int, content: Any) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
