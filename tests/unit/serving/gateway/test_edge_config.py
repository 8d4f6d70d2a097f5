"""Envoy's files, judged by Envoy itself where it can, by their content where it cannot."""

import json
import re
import subprocess

import pytest
from pydantic import ValidationError

from serving.gateway import envoy, envoy_shares
from serving.gateway.edge import Arm, EdgeConfig, Split
from serving.gateway.envoy_clusters import clusters
from serving.gateway.envoy_listeners import listeners
from serving.gateway.envoy_routes import routes

A, B = "a" * 64, "b" * 64


def arm(name="stable", release=A, weight=100, workload="pills"):
    return Arm(workload=workload, name=name, release=release, http_port=1, grpc_port=2, weight=weight)


def edge(*arms, folder=".", splits=()):
    log = f"{folder}/access.log"
    return EdgeConfig(port=1, internal_port=2, admin_port=3, access_log=log, arms=arms, splits=splits)


def canary(weight, **settings):
    """Stable and a candidate with a split."""
    arms = (arm(weight=100 - weight), arm("candidate", B, weight))
    return edge(*arms, splits=(Split(workload="pills", stable=A, candidate=B, **settings),))


def table(config):
    return routes(config)["virtual_hosts"][0]["routes"]


def shares(route):
    return {c["name"]: c["weight"] for c in route["route"]["weighted_clusters"]["clusters"]}


@pytest.mark.parametrize(
    ("arms", "settings"),
    [
        ((), None),
        ((arm(),), None),
        ((arm(), arm("candidate", B, 0)), None),
        ((arm(), arm("candidate", B, 5)), {}),
        ((arm(), arm("candidate", B, 0)), {"shadow": 10, "sticky_header": "x-user"}),
        ((arm(weight=0), arm("candidate", B, 100)), {"sticky_header": "x-user"}),
        ((arm(weight=0),), None),
        ((arm(), arm(workload="reward", release=B)), None),
    ],
)
def test_envoy_accepts_the_configuration(tmp_path, arms, settings):
    """As static resources: Envoy's own check looks no further than its first file."""
    splits = () if settings is None else (Split(workload="pills", stable=A, candidate=B, **settings),)
    config = edge(*arms, folder=tmp_path, splits=splits)
    places = listeners(config, tmp_path)
    for listener in places:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["rds"]
        manager["route_config"] = routes(config)
    whole = envoy.bootstrap(config, tmp_path)
    del whole["dynamic_resources"]
    whole["static_resources"] = {
        "listeners": [{k: v for k, v in listener.items() if k != "@type"} for listener in places],
        "clusters": [{k: v for k, v in cluster.items() if k != "@type"} for cluster in clusters(config)],
    }
    for listener in whole["static_resources"]["listeners"]:
        listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"].pop("@type")
    (tmp_path / "bootstrap.json").write_text(json.dumps(whole))
    done = subprocess.run(
        [*envoy.command(tmp_path, 1, 5), "--mode", "validate"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_weights_are_what_was_asked_for():
    [rest, grpc, *_] = table(edge(arm(weight=90), arm("candidate", B, 10)))
    assert shares(rest) == {f"rest-pills-stable-{A[:12]}": 90, f"rest-pills-candidate-{B[:12]}": 10}
    assert shares(grpc) == {f"grpc-pills-stable-{A[:12]}": 90, f"grpc-pills-candidate-{B[:12]}": 10}


def test_an_arm_without_weight_is_known_but_gets_nothing():
    config = edge(arm(), arm("candidate", B, 0))
    assert len(clusters(config)) == 8
    assert shares(table(config)[0]) == {f"rest-pills-stable-{A[:12]}": 100}


def test_an_answer_names_the_server_that_gave_it_not_the_arm_that_was_tried_first():
    config = canary(10)
    [main] = [route for route in table(config)[:-1] if "weighted_clusters" in route["route"]][:1]
    headers = {h["header"]["key"]: h["header"]["value"] for h in main["response_headers_to_add"]}
    assert headers == {
        "x-titrate-release": "%UPSTREAM_METADATA(titrate:release)%",
        "x-titrate-arm": "%UPSTREAM_METADATA(titrate:arm)%",
    }
    [candidate] = [c for c in clusters(config) if c["name"] == f"rest-pills-candidate-{B[:12]}"]
    places = candidate["load_assignment"]["endpoints"]
    assert [(p["priority"], p["lb_endpoints"][0]["metadata"]["filter_metadata"]["titrate"]) for p in places] == [
        (0, {"release": B, "arm": "candidate"}),
        (1, {"release": A, "arm": "stable"}),
    ]


def test_only_the_candidate_is_tried_again_after_a_server_error_and_once():
    [main] = [route for route in table(canary(10))[:-1] if "weighted_clusters" in route["route"]][:1]
    told = {
        c["name"]: {h["header"]["key"]: h["header"]["value"] for h in c["request_headers_to_add"]}
        for c in main["route"]["weighted_clusters"]["clusters"]
    }
    assert told[f"rest-pills-stable-{A[:12]}"] == {"x-titrate-arm": "stable"}
    assert told[f"rest-pills-candidate-{B[:12]}"]["x-envoy-max-retries"] == "1"
    assert "5xx" not in main["route"]["retry_policy"]["retry_on"]


def test_testers_choose_by_header_or_cookie_and_are_counted_apart():
    testers = [route for route in table(canary(0)) if route.get("request_headers_to_add")]
    assert len(testers) == 8, "two arms, two protocols, header and cookie"
    assert {h["header"]["value"] for route in testers for h in route["request_headers_to_add"]} == {"tester"}
    [cookie] = {
        h["string_match"]["safe_regex"]["regex"]
        for route in testers
        for h in route["match"]["headers"]
        if h["name"] == "cookie" and "candidate" in h["string_match"]["safe_regex"]["regex"]
    }
    for text, matches in (
        ("x-titrate-arm=candidate", True),
        ("a=b; x-titrate-arm=candidate; c=d", True),
        ("c=d", False),
    ):
        assert bool(re.fullmatch(cookie, text)) == matches
    assert not re.fullmatch(cookie, "not-x-titrate-arm=candidate")
    assert all("_aside-" in route["route"]["cluster"] for route in testers)
    assert "tester" not in str(table(edge(arm())))


@pytest.mark.parametrize("weight", [5, 100])
def test_what_infers_nothing_is_no_evidence(weight):
    """Probes of readiness would be answers that are never bad."""
    for path, protocol in (("/v2/models/pills/ready", "rest"), ("/inference.GRPCInferenceService/ModelReady", "grpc")):
        hit = next(
            route
            for route in table(canary(weight))
            if re.fullmatch(route["match"]["safe_regex"]["regex"], path) and len(route["match"].get("headers", ())) < 1
        )
        largest = (
            f"{protocol}-pills-stable_aside-{A[:12]}" if weight < 50 else f"{protocol}-pills-candidate_aside-{B[:12]}"
        )
        assert hit["route"]["cluster"] == largest


def test_a_hashed_header_puts_the_candidate_first_so_that_weights_move_users_one_way():
    [main] = [r for r in table(canary(10, sticky_header="x-user"))[:-1] if "weighted_clusters" in r["route"]][:1]
    weighted = main["route"]["weighted_clusters"]
    assert weighted["use_hash_policy"]
    assert [c["name"].split("-")[2] for c in weighted["clusters"]] == ["candidate", "stable"]
    assert main["route"]["hash_policy"] == [{"header": {"header_name": "x-user"}}]


def test_what_is_in_force_is_read_back():
    assert envoy_shares.shares(routes(canary(10)), "pills") == (
        {"stable": 90, "candidate": 10},
        {"stable": A[:12], "candidate": B[:12]},
        0,
    )
    assert envoy_shares.shares(routes(canary(0, shadow=25)), "pills") == ({"stable": 100}, {"stable": A[:12]}, 25)
    assert envoy_shares.shares(routes(edge(arm())), "pills") == ({"stable": 100}, {"stable": A[:12]}, 0)
    assert envoy_shares.shares(routes(edge(arm())), "reward") is None
    assert envoy_shares.shares(routes(edge()), "pills") is None


def test_routes_that_differ_between_protocols_are_unknown():
    half = routes(canary(10))
    for route in half["virtual_hosts"][0]["routes"]:
        for part in route.get("route", {}).get("weighted_clusters", {}).get("clusters", ()):
            part["weight"] = 50 if part["name"].startswith("grpc") else part["weight"]
    assert envoy_shares.shares(half, "pills") is None


def test_a_split_over_an_unknown_arm_is_refused():
    with pytest.raises(ValidationError, match="names an unknown candidate"):
        edge(arm(), splits=(Split(workload="pills", stable=A, candidate=B),))


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/pills/unload",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/x/register",
        "/v2/cudasharedmemory/status",
        "/v2/trace/setting",
        "/v2/models/pills/trace/setting",
        "/v2/logging",
        "/v2/models/pills/versions/x/infer",
        "/v2/models/pillsx/infer",
        "/v2/models/pills/infer/../../repository/index",
        "/metrics",
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/inference.GRPCInferenceService/SystemSharedMemoryRegister",
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "/inference.GRPCInferenceService/LogSettings",
        "/inferencexGRPCInferenceService/ModelInfer",
        "/",
    ],
)
def test_only_named_paths_reach_a_server(path):
    for config in (edge(arm()), canary(5)):
        *passing, last = table(config)
        assert not any(re.fullmatch(route["match"]["safe_regex"]["regex"], path) for route in passing)
        assert last["direct_response"]["status"] == 404


@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/health/ready", "/v2/models/pills", "/v2/models/pills/infer", "/v2/models/pills/versions/1/infer"],
)
def test_the_paths_of_the_protocol_pass(path):
    for config in (edge(arm()), canary(5)):
        assert any(re.fullmatch(route["match"]["safe_regex"]["regex"], path) for route in table(config)[:-1])


@pytest.mark.parametrize("arms", [(), (arm(weight=0),)])
def test_without_a_release_every_path_says_so(arms):
    [only] = table(edge(*arms))
    assert only["direct_response"]["status"] == 503
    assert "no release is stable" in only["direct_response"]["body"]["inline_string"]


def test_with_several_workloads_a_grpc_caller_may_name_one():
    found = table(edge(arm(), arm(workload="reward", release=B)))
    named = [route for route in found if route.get("match", {}).get("headers")]
    assert [r["match"]["headers"][0]["string_match"]["exact"] for r in named] == ["pills"] * 2 + ["reward"] * 2
    unnamed = [r["route"] for r in found if "grpc" in r["match"] and "headers" not in r["match"]]
    assert [next(iter(shares({"route": r})), "") if "weighted_clusters" in r else r["cluster"] for r in unnamed] == [
        f"grpc-pills-stable-{A[:12]}",
        f"grpc-pills-stable_aside-{A[:12]}",
    ]


def test_two_equal_arms_are_refused():
    with pytest.raises(ValidationError, match="same workload, name and release"):
        edge(arm(), arm(weight=5))


def test_writing_twice_replaces_only_what_changed(tmp_path):
    first = envoy.write(edge(arm()), tmp_path)
    inode = (tmp_path / "cds.json").stat().st_ino
    second = envoy.write(edge(arm(weight=50)), tmp_path)
    assert second["rds"] != first["rds"]
    assert second["cds"] == first["cds"]
    assert (tmp_path / "cds.json").stat().st_ino == inode, "Envoy is not woken for nothing"
    assert json.loads((tmp_path / "rds.json").read_text())["version_info"] == second["rds"]


def test_the_edge_listens_on_loopback_alone_unless_told_otherwise(tmp_path):
    places = listeners(edge(arm()), tmp_path)
    assert {listener["address"]["socket_address"]["address"] for listener in places} == {"127.0.0.1"}
    assert not any(listener["enable_reuse_port"] for listener in places), "a taken port must be an error"
