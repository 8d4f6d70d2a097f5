"""The real server of the wheel with the colour model: what clients see, and what is left when it goes."""

import contextlib
import os
import re
import shutil
import time
import urllib.request

import numpy as np
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http

from core.errors import PermanentError
from serving.triton.server import SHARED_MEMORY, is_alive, running, stubs
from tests.colours import RELEASE, picture, write_repository

CONTENTS = [picture("red"), b"junk", picture("blue", kind="JPEG")]


@pytest.fixture(scope="module")
def http(triton):
    with contextlib.closing(tritonclient.http.InferenceServerClient(triton.http_url.removeprefix("http://"))) as one:
        yield one


def images(client, contents):
    tensor = client.InferInput("image", [len(contents), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, dtype=object)[:, None])
    return [tensor]


def until(condition, seconds=20.0):
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)
    return found


def counted(triton, outcome):
    """Items counted with an outcome."""
    with urllib.request.urlopen(triton.metrics_url) as page:
        lines = page.read().decode().splitlines()
    mine = [line for line in lines if line.startswith("titrate_predictions_total") and f'outcome="{outcome}"' in line]
    assert all(f'release="{RELEASE}"' in line and 'model_version="1"' in line for line in mine)
    return sum(float(line.split()[-1]) for line in mine)


def test_rest_and_grpc_give_equal_answers_and_a_bad_image_fails_alone(triton, http):
    rest = http.infer("pills", images(tritonclient.http, CONTENTS))
    with contextlib.closing(tritonclient.grpc.InferenceServerClient(triton.grpc_url)) as client:
        grpc = client.infer("pills", images(tritonclient.grpc, CONTENTS))
    assert rest.as_numpy("label").tolist() == [[b"red"], [b""], [b"blue"]]
    assert rest.as_numpy("error")[1, 0].startswith(b"not_an_image")
    assert rest.as_numpy("release").tolist() == [[RELEASE.encode()]] * 3
    for name in ("label", "probability", "labels", "probabilities", "abstain", "embedding", "error"):
        assert (rest.as_numpy(name) == grpc.as_numpy(name)).all(), name


def test_only_requested_outputs_come_back(http):
    asked = [tritonclient.http.InferRequestedOutput("probability")]
    answer = http.infer("pills", images(tritonclient.http, CONTENTS[:1]), outputs=asked).get_response()
    assert [output["name"] for output in answer["outputs"]] == ["probability"]


def test_pixels_of_any_size_answer_like_the_image(http):
    tensor = tritonclient.http.InferInput("pixels", [1, 20, 30, 3], "UINT8")
    tensor.set_data_from_numpy(np.full((1, 20, 30, 3), (0, 0, 255), np.uint8))
    assert http.infer("pills", [tensor]).as_numpy("label").tolist() == [[b"blue"]]


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_or_too_many_images_are_the_callers_mistake(http, count):
    with pytest.raises(tritonclient.http.InferenceServerException) as caught:
        http.infer("pills", images(tritonclient.http, [CONTENTS[0]] * count))
    assert caught.value.status() == "400"


def test_a_failure_that_would_be_silent_fails_the_request(http):
    asked = [tritonclient.http.InferRequestedOutput("label")]
    with pytest.raises(tritonclient.http.InferenceServerException, match="not_an_image") as caught:
        http.infer("pills", images(tritonclient.http, CONTENTS), outputs=asked)
    assert caught.value.status() == "400"


def test_predictions_are_counted_by_release(triton, http):
    before = counted(triton, "empty")  # an outcome that no other test has
    http.infer("pills", images(tritonclient.http, [b"", CONTENTS[0], b""]))
    until(lambda: counted(triton, "empty") == before + 2)
    assert counted(triton, "ok") >= 1


def test_models_and_log_settings_cannot_be_changed_through_the_server(triton):
    for path in ("/v2/repository/models/other/load", "/v2/logging", "/v2/trace/setting"):
        request = urllib.request.Request(triton.http_url + path, data=b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert re.search("not allowed|restricted", caught.value.read().decode()), path
        caught.value.close()


def test_memory_is_that_of_server_and_stubs(triton):
    alone = psutil.Process(triton.pid).memory_full_info().pss / 2**20
    assert alone + 50 < triton.memory_mib() < 2048


def test_a_server_leaves_nothing_behind_and_the_release_unchanged(tmp_path):
    """Whatever the folders are called: Triton hands paths to a shell."""
    repository = write_repository(tmp_path / "a release")
    before = sorted(str(path) for path in repository.rglob("*"))
    with running(repository, tmp_path / "it's a $(cache)") as server:
        processes = [server.pid, *stubs(server.pid)]
        regions = list(SHARED_MEMORY.glob(f"titrate-{os.getpid()}-*"))
        assert len(processes) == 2
        os.kill(server.pid, 9)
        until(lambda: not is_alive(server.pid))
    until(lambda: not any(is_alive(pid) for pid in processes))
    left = list(SHARED_MEMORY.glob(f"titrate-{os.getpid()}-*"))
    assert len(left) < len(regions), "its own regions are gone; those of the session's server stay"
    assert sorted(str(path) for path in repository.rglob("*")) == before


def test_a_model_that_cannot_be_loaded_tells_why(tmp_path, triton_cache):
    repository = write_repository(tmp_path)
    (repository / "pills/1/network.onnx").write_bytes(b"not a network")
    with (
        pytest.raises(PermanentError, match=r"(?s)failed to load 'pills'.*network\.onnx"),
        running(repository, triton_cache),
    ):
        pytest.fail("it must not become ready")
    shutil.rmtree(repository / "pills/1")
    with pytest.raises(PermanentError, match="stopped with code"), running(repository, triton_cache):
        pytest.fail("it must not become ready")
