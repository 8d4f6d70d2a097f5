"""What one rule of an HTTPRoute or GRPCRoute says about the arms. Plain objects in, plain objects out."""

import copy
from typing import Any, NamedTuple

from serving.rollout.observations import Arm, Weights

Json = dict[str, Any]
ARM, RELEASE = "x-titrate-arm", "x-titrate-release"
"""Response headers that name who answered; a request that names an arm gets it."""
PARKED: Json = {"name": "x-titrate-parked", "value": "yes"}
MIRROR = "RequestMirror"
FULL = 100


class Member(NamedTuple):
    """An arm behind a route."""

    service: str
    port: int
    release: str


class Shares(NamedTuple):
    """What a route asks for."""

    weights: Weights
    shadow: int

    @property
    def arms(self) -> tuple[bool, bool]:
        """Which arms have a share: another answer means other clusters."""
        return self.weights.stable > 0, self.weights.candidate > 0


ALL_STABLE = Shares(Weights(stable=FULL, candidate=0), 0)


def content(rule: Json, stable: Member, candidate: Member, wanted: Shares) -> Json:
    """The rule with these shares. Both backends are always written, in this order: their places name their clusters."""
    others = [item for item in rule.get("filters", []) if item["type"] != MIRROR]
    filters = [*others, _mirror(candidate, wanted.shadow)] if wanted.shadow else others
    changed = {**rule, "filters": filters} if filters else {k: v for k, v in rule.items() if k != "filters"}
    changed["backendRefs"] = [
        _backend(rule, stable, "stable", wanted.weights.stable),
        _backend(rule, candidate, "candidate", wanted.weights.candidate),
    ]
    return changed


def only(rule: Json, member: Member) -> Json:
    """The rule with one arm, which is stable."""
    return {**content(rule, member, member, ALL_STABLE), "backendRefs": [_backend(rule, member, "stable", FULL)]}


def arms_of(rule: Json) -> list[Arm]:
    """The arm of each backend."""
    return ["candidate" if header(ref, ARM) == "candidate" else "stable" for ref in rule["backendRefs"]]


def header(ref: Json, name: str) -> str:
    """The value that a backend's filter sets for a response header; empty where it sets none."""
    for item in ref.get("filters", []):
        for pair in item.get("responseHeaderModifier", {}).get("set", []):
            if pair["name"].lower() == name:
                return str(pair["value"])
    return ""


def is_parked(rule: Json) -> bool:
    """Whether only requests that carry the header reach the rule."""
    matches = rule.get("matches", [])
    return bool(matches) and all(PARKED["name"] in {h["name"] for h in m.get("headers", [])} for m in matches)


def parked(rule: Json) -> Json:
    """The rule where no client comes."""
    return rule if is_parked(rule) else {**rule, "matches": _with_header(rule, PARKED)}


def freed(rule: Json) -> Json:
    """The rule without the header that parks it."""
    matches = copy.deepcopy(rule.get("matches", []))
    for match in matches:
        if "headers" in match:
            match["headers"] = [item for item in match["headers"] if item["name"] != PARKED["name"]]
            if not match["headers"]:
                del match["headers"]
    return {**rule, "matches": matches}


def _with_header(rule: Json, item: Json) -> list[Json]:
    matches = copy.deepcopy(rule.get("matches") or [{}])
    for match in matches:
        match["headers"] = [*match.get("headers", []), {"type": "Exact", **item}]
    return matches


def for_testers(rule: Json, member: Member, arm: str) -> Json:
    """A copy of the rule for requests that name the arm; Gateway API prefers the match with more headers."""
    kept = {name: value for name, value in only(rule, member).items() if name != "name"}
    cookie = {"type": "RegularExpression", "name": "cookie", "value": f"(^|.*; *){ARM}={arm}(;.*|$)"}
    matches = _with_header(rule, {"name": ARM, "value": arm}) + _with_header(rule, cookie)
    return {**kept, "matches": matches, "backendRefs": [_backend(rule, member, arm, 1)]}


def _backend(rule: Json, member: Member, arm: str, weight: int) -> Json:
    """A backend; what the owner of the route wrote on an existing one stays, except the names of arm and release."""
    known: Json = next((ref for ref in rule["backendRefs"] if ref["name"] == member.service), {})
    kept = [item for item in known.get("filters", []) if not _names_an_arm(item)]
    names = [{"name": ARM, "value": arm}, *([{"name": RELEASE, "value": member.release}] if member.release else [])]
    filters = [*kept, {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": names}}]
    place = {"group": "", "kind": "Service", "name": member.service, "port": member.port}
    return {**known, **place, "weight": weight, "filters": filters}


def _names_an_arm(item: Json) -> bool:
    return any(pair["name"].lower() == ARM for pair in item.get("responseHeaderModifier", {}).get("set", []))


def _mirror(candidate: Member, percent: int) -> Json:
    target = {"group": "", "kind": "Service", "name": candidate.service, "port": candidate.port}
    return {"type": MIRROR, "requestMirror": {"backendRef": target, "percent": percent}}


def shares_of(rule: Json) -> Shares | None:
    """What the rule asks for; None where it knows another arm, or not all of the traffic."""
    weights = {header(ref, ARM): ref.get("weight", 1) for ref in rule["backendRefs"]}
    if len(rule["backendRefs"]) == 1:
        weights = {"stable": FULL}  # also of a route that Titrate did not write
    if not weights.keys() <= {"stable", "candidate"} or sum(weights.values()) != FULL:
        return None
    mirrors = [item["requestMirror"] for item in rule.get("filters", []) if item["type"] == MIRROR]
    found = Weights(stable=weights.get("stable", 0), candidate=weights.get("candidate", 0))
    return Shares(found, max((item.get("percent", FULL) for item in mirrors), default=0))
