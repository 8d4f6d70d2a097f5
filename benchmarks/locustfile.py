"""Clients of the edge, as locust runs them: photographs over V2, every tenth as an upload; one a second each."""

import os

from locust import FastHttpUser, constant_throughput, task

from benchmarks.clients import UPLOAD_PATH, V2_PATH, form, photograph, tensors

IMAGE = photograph(int(os.environ.get("TITRATE_LOAD_SIDE", "96")))
BODY, LENGTH = tensors(IMAGE)
FORM, KIND = form(IMAGE)


class Client(FastHttpUser):
    """One of them. TITRATE_API_KEY is sent where it is set."""

    wait_time = constant_throughput(1)

    def on_start(self) -> None:
        """The key is of every request."""
        key = os.environ.get("TITRATE_API_KEY")
        self.key = {"x-api-key": key} if key else {}

    @task(9)
    def predict(self) -> None:
        """V2 with binary tensors."""
        headers = {"Inference-Header-Content-Length": str(LENGTH), "Content-Type": "application/octet-stream"}
        self.client.post(V2_PATH.decode(), data=BODY, headers=headers | self.key, name="V2, binary")

    @task
    def upload(self) -> None:
        """As an app does."""
        self.client.post(UPLOAD_PATH.decode(), data=FORM, headers={"Content-Type": KIND} | self.key, name="upload")
