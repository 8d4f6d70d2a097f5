"""The whole stack of a home: up, answering, exchanging releases, surviving crashes, down."""

import contextlib
import os
import shutil
import signal

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
import tritonclient.grpc
import tritonclient.http
from prometheus_client.parser import text_string_to_metric_families
from titrate_client import Client
from titrate_client.rpc import GrpcClient

from core.errors import UserError
from serving.feedback.schema import events, labels
from serving.triton.server import SHARED_MEMORY, is_alive, stubs
from tests import v2_clients
from tests.colours import picture
from tests.stack_home import Colours, traffic, until
from titrate.observability import catalogue
from titrate.predict import predict
from titrate.stack.access import add_key, remove_key
from titrate.stack.control import down, logs, status, up
from titrate.stack.ports import home_ports
from titrate.stack.services import shm_prefix
from titrate.stack.state import set_stable, supervisor_pid
from workloads.pills.features import FEATURE_NAMES


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    one = Colours(tmp_path_factory.mktemp("stack"))
    set_stable(one.home, "pills", one.releases[0])
    up(one.home)
    yield one
    down(one.home)


@pytest.fixture
def client():
    with httpx.Client(timeout=60) as one:
        yield one


def test_the_release_answers_through_the_edge_over_rest_and_grpc(colours):
    edge = colours.url.removeprefix("http://")
    pixels = np.full((1, 9, 9, 3), (0, 0, 255), np.uint8)
    for module in (tritonclient.http, tritonclient.grpc):
        with contextlib.closing(module.InferenceServerClient(edge)) as one:
            tensor = module.InferInput("pixels", [1, 9, 9, 3], "UINT8")
            tensor.set_data_from_numpy(pixels)
            answer = one.infer("pills", [tensor])
        assert answer.as_numpy("label").tolist() == [[b"blue"]]
        assert answer.as_numpy("release").tolist() == [[colours.releases[0].encode()]]


def test_every_client_gets_the_same_answer(colours, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(image := picture((90, 120, 60), kind="JPEG"))
    edge, port = colours.url.removeprefix("http://"), colours.triton().address.removeprefix("http://")
    with Client(colours.url, "pills") as rest, GrpcClient(edge, "pills") as grpc:
        answers = {
            "tritonclient, REST": v2_clients.of_tritonclient(tritonclient.http, edge, image),
            "tritonclient, gRPC": v2_clients.of_tritonclient(tritonclient.grpc, edge, image),
            "shared memory": v2_clients.of_shared_memory(tritonclient.http, port, image),
            "kserve": v2_clients.of_kserve(colours.url, photo),
            "SDK": v2_clients.of_sdk(rest, photo),
            "SDK, gRPC": v2_clients.of_sdk(grpc, photo),
        }
    first = answers["tritonclient, REST"]
    assert first["label"] == ["green"] and 0.34 < first["probability"][0] < 0.9
    assert first["release"] == [colours.releases[0]]
    for name, answer in answers.items():
        for output in v2_clients.OUTPUTS:
            same = pytest.approx(first[output], rel=0, abs=1e-5) if "prob" in output else first[output]
            assert answer[output] == same, f"{name}: {output}"


def test_every_metric_is_where_its_page_says(colours, client):
    """And nothing of ours is exported that the page does not list, or under other labels."""
    colours.ask(client)
    services = {service.name: service.address for service in status(colours.home)}
    metrics = f"http://127.0.0.1:{int(colours.triton().address.rpartition(':')[2]) + 2}/metrics"
    admin = f"http://127.0.0.1:{home_ports(colours.home).admin}/stats/prometheus"
    pages = {
        catalogue.MODEL: metrics,
        catalogue.TRITON: metrics,
        catalogue.GATEWAY: f"{services['gateway']}/metrics",
        catalogue.FEEDBACK: f"{services['feedback']}/metrics",
        catalogue.ENVOY: admin,
    }
    rows = catalogue.catalogue()
    for place, url in pages.items():
        listed = {one.name: one for one in rows if one.place == place}
        families = until(lambda url=url, listed=listed: exported(client, url, listed))
        if place not in (catalogue.ENVOY, catalogue.TRITON):
            ours = {name for name in families if name.startswith("titrate_") and not name.endswith("_created")}
            assert ours == listed.keys(), place
        for name, one in listed.items():
            assert families[name].type == one.kind, name
            for sample in families[name].samples:
                assert sample.labels.keys() - {"le"} == set(one.labels) or sample.name.endswith("_created"), sample


def exported(client, url, listed):
    """The page's families by full name; None while one of `listed` is not there."""
    families = {}
    for family in text_string_to_metric_families(client.get(url).text):
        name = f"{family.name}_total" if f"{family.name}_total" in listed else family.name
        families[name] = family
    return families if listed.keys() <= families.keys() else None


def test_predict_answers_in_order_and_names_what_it_cannot_read(colours, tmp_path):
    names = ["red", "blue", "lime", "blue"] * 3
    paths = [tmp_path / f"{number} ü.png" for number in range(len(names))]
    for path, name in zip(paths, names, strict=True):
        path.write_bytes(picture(name))
    paths[1].write_bytes(b"")
    answers = predict(colours.home, paths)
    assert [answer.path for answer in answers] == [str(path) for path in paths]
    assert [answer.label for answer in answers] == ["red", "", *["green" if n == "lime" else n for n in names[2:]]]
    assert answers[1].error.startswith("empty: ")
    assert {answer.release for answer in answers} == {colours.releases[0]}
    with pytest.raises(UserError, match="did you mean 'pills'"):
        predict(colours.home, paths, "pilz")


def test_a_prediction_becomes_an_event_of_its_arm_that_its_label_joins(colours, client):
    """Whatever arm the client says it is: only a rollout has testers."""
    names = [colours.ask(client, {"x-request-id": f"event-{said}", "x-titrate-arm": said})[1] for said in ("me", "")]
    assert names == [colours.releases[0]] * 2
    label = {"labels": [{"prediction_id": "event-me-0", "label": "blue"}]}
    assert client.post(f"{colours.url}/v1/labels", json=label).status_code == 200
    joined = events.join(labels, labels.c.prediction_id == events.c.prediction_id)
    query = sa.select(events, labels.c.label.label("truth")).select_from(joined)
    query = query.where(events.c.request_id == "event-me")
    engine = sa.create_engine(colours.home.events, poolclass=sa.NullPool)

    def found():
        with engine.connect() as connection:
            return connection.execute(query).one_or_none()

    event = until(found)
    assert (event.arm, event.release, event.label, event.truth) == ("stable", colours.releases[0], "blue", "blue")
    assert np.frombuffer(event.embedding, "<f4").shape == (3,)
    assert set(event.image) == set(FEATURE_NAMES)


def test_up_twice_is_harmless(colours):
    before = status(colours.home)
    assert [(s.name, s.state) for s in up(colours.home)] == [(s.name, "ready") for s in before]
    assert [s.pid for s in status(colours.home)] == [s.pid for s in before]


def test_another_port_is_refused_while_it_runs(colours):
    with pytest.raises(UserError, match="titrate stack down"):
        up(colours.home, home_ports(colours.home).edge + 1)


def test_services_and_logs_are_told(colours):
    names = [service.name for service in status(colours.home)]
    assert names == [
        "envoy",
        f"triton-pills-{colours.releases[0][:8]}",
        "gateway",
        "feedback",
        "rollouts",
        "loop",
        "mlflow",
    ]
    assert status(colours.home)[0].detail == f"serves pills {colours.releases[0][:12]}"
    assert "ready" in logs(colours.home, "supervisor", 5)
    assert httpx.get(f"{status(colours.home)[-1].address}/health").text == "OK"


def test_a_new_stable_release_takes_over_without_a_refused_request(colours):
    old, new = colours.releases
    with traffic(colours) as answers:
        until(lambda: len(answers) > 50)
        set_stable(colours.home, "pills", new)
        up(colours.home)
        already = len(answers)
        until(lambda: len(answers) > already + 50)
        set_stable(colours.home, "pills", old)
        up(colours.home)
        already = len(answers)
        until(lambda: len(answers) > already + 50)
    assert {code for code, *_ in answers} == {200}
    assert {label for *_, label in answers} == {"blue"}
    order = [release for _, release, _ in answers]
    assert order[0] == order[-1] == old
    assert new in order
    until(lambda: len(status(colours.home)) == 7)  # the server that is no longer needed went


def test_a_release_that_does_not_verify_does_not_replace_the_one_that_serves(colours, client):
    bad = "f" * 64
    shutil.copytree(colours.home.releases / colours.releases[0], colours.home.releases / bad)
    set_stable(colours.home, "pills", bad)
    refused = until(lambda: [s for s in status(colours.home) if "was changed" in s.detail])
    assert refused[0].name == f"triton-pills-{bad[:8]}"
    assert colours.ask(client)[:2] == (200, colours.releases[0])
    set_stable(colours.home, "pills", colours.releases[0])
    up(colours.home)
    shutil.rmtree(colours.home.releases / bad)


def test_the_gateway_answers_at_the_public_port(colours, client):
    answer = client.post(f"{colours.url}/v1/predict", files={"image": picture("blue")}, headers={"x-request-id": "r-1"})
    (item,) = answer.json()["predictions"]
    assert (item["label"], item["release"]) == ("blue", colours.releases[0])
    assert answer.headers.get_list("x-request-id") == ["r-1"]
    label = {"labels": [{"prediction_id": item["prediction_id"], "label": "blue"}]}
    assert client.post(f"{colours.url}/v1/labels", json=label).json()["rows"][0]["result"] in {"waiting", "stored"}
    assert client.get(f"{colours.url}/readyz").json() == {"status": "ready"}
    assert client.get(f"{colours.url}/v1/nothing").json()["code"] == "unknown_path"
    assert client.get(f"{colours.url}/metrics").status_code == 404


def test_with_a_key_nobody_is_answered_without_until_it_is_removed(colours, client, tmp_path):
    key = add_key(colours.home, "app")
    until(lambda: colours.ask(client)[0] == 401)
    assert client.get(f"{colours.url}/v1/models").json()["code"] == "unauthorized"
    keyed = {"x-api-key": key}
    upload = client.post(f"{colours.url}/v1/predict", files={"image": picture("blue")}, headers=keyed)
    assert upload.json()["predictions"][0]["label"] == "blue"
    (tmp_path / "a.png").write_bytes(picture("blue"))
    assert predict(colours.home, [tmp_path / "a.png"])[0].label == "blue", "our own commands need no key"
    remove_key(colours.home, "app")
    until(lambda: colours.ask(client)[0] == 200)


def test_an_open_address_without_keys_is_refused_and_what_runs_goes_on(colours, client):
    file = colours.home.root / "edge.json"
    file.write_text('{"address": "0.0.0.0"}')
    with pytest.raises(UserError, match="--insecure"):
        up(colours.home)
    assert colours.ask(client)[0] == 200
    file.unlink()


@pytest.mark.parametrize("victim", ["triton", "stub", "envoy", "gateway", "feedback", "rollouts", "loop"])
def test_a_killed_process_comes_back(colours, client, victim):
    triton = colours.triton()
    pids = {service.name: service.pid for service in status(colours.home)}
    pids |= {"triton": triton.pid, "stub": stubs(triton.pid)[0]}
    os.kill(pids[victim], signal.SIGKILL)
    until(lambda: not is_alive(pids[victim]))
    killed = triton.name if victim in ("triton", "stub") else victim
    until(
        lambda: [s for s in status(colours.home) if s.name == killed and s.state == "ready" and s.pid != pids[killed]]
    )
    until(lambda: status(colours.home)[0].detail.startswith("serves"))
    assert colours.ask(client) == (200, colours.releases[0], "blue")


def test_requests_wait_for_a_server_that_is_started_again(colours):
    """The edge tries again while Triton restarts: few requests fail, none is answered wrongly."""
    with traffic(colours) as answers:
        until(lambda: len(answers) > 50)
        os.kill(colours.triton().pid, signal.SIGKILL)
        already = len(answers)
        until(lambda: len(answers) > already + 100)
    assert {label for code, _, label in answers if code == 200} == {"blue"}
    assert {code for code, *_ in answers} <= {200, 503}


def test_the_served_release_is_still_what_was_signed(colours):
    """Neither byte code nor anything else was added by all those starts."""
    from titrate.stack.releases import verified

    verified(colours.home, colours.releases[0])


def test_a_killed_supervisor_takes_everything_along_and_up_starts_cleanly(colours, client):
    pid = supervisor_pid(colours.home)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not colours.processes())
    assert status(colours.home) == []
    up(colours.home)
    assert supervisor_pid(colours.home) != pid
    assert colours.ask(client) == (200, colours.releases[0], "blue")
    prefix = shm_prefix(colours.home)
    assert len(list(SHARED_MEMORY.glob(f"{prefix}*"))) == 1, "one region for one stub"


def test_down_answers_what_is_in_flight_and_leaves_nothing(colours):
    with traffic(colours) as answers:  # an answer that is cut off fails its thread, and so this test
        until(lambda: len(answers) > 20)
        assert down(colours.home)
    assert {code for code, *_ in answers} == {200}
    assert down(colours.home) is False
    assert colours.processes() == []
    assert list(SHARED_MEMORY.glob(f"{shm_prefix(colours.home)}*")) == []
    assert status(colours.home) == []
