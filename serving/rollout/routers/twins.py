"""How a route gets from one set of shares to another without losing a request: the next route to write, step by step.

Envoy Gateway makes a cluster for each backend of a rule and drops it where the weight is 0, and Envoy may hear of a
changed rule before it hears of its clusters: a route that gave a backend its first or last share answered 10 of 38,305
requests with 500. So each rule that leads to the stable arm gets a twin. One of the two is parked behind a header that
nobody sends; there the next shares are prepared, and when the gateway has taken them over, the two change places: their
clusters are known already. While a candidate has traffic, the parked twin gives everything to stable.

    rules: [the route's own ...] + for each that leads to stable: [twin, for testers of stable, of the candidate]
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from core.errors import PermanentError
from serving.rollout.observations import Arm
from serving.rollout.routers.backends import (
    ALL_STABLE,
    ARM,
    RELEASE,
    Member,
    Shares,
    arms_of,
    content,
    for_testers,
    freed,
    header,
    is_parked,
    only,
    parked,
    shares_of,
)

Json = dict[str, Any]
OWN = "titrate.dev/rules"
"""Annotation of a route that is laid out for a rollout: how many of its rules are its own."""
EXTRA = 3
"""Rules added for each that leads to stable."""


def laid_out(route: Json) -> int | None:
    """How many rules are the route's own; None where it is not laid out (or was written anew by its owner)."""
    own = route["metadata"].get("annotations", {}).get(OWN)
    return int(own) if own is not None and len(route["spec"].get("rules", [])) > int(own) else None


def stable_member(route: Json) -> Member:
    """The stable arm: the backend whose header says so, else the only one of a route that Titrate did not write.

    Raises PermanentError where it cannot be told.
    """
    backends = [ref for rule in _active(route) for ref in rule["backendRefs"]]
    named = [ref for ref in backends if header(ref, ARM) == "stable"]
    services = {ref["name"] for ref in named or backends}
    if len(services) != 1:
        name, shown = route["metadata"]["name"], ", ".join(sorted(services)) or "(none)"
        raise PermanentError(
            f"{route['kind']} {name!r}: no backend is named stable (response header {ARM}: stable) and there is not "
            f"exactly one: {shown}; set the header on the one that serves"
        )
    first = (named or backends)[0]
    return Member(first["name"], first["port"], header(first, RELEASE))


def shares(route: Json) -> Shares | None:
    """What the route asks for; None where its rules differ or know another arm."""
    stable = stable_member(route).service
    found = {shares_of(rule) for rule in _active(route) if stable in _services(rule)}
    return found.pop() if len(found) == 1 else None


def counting(route: Json) -> Iterator[tuple[int, Json, list[Arm]]]:
    """(number, rule, the arm of each backend) of each rule whose requests are evidence: not those of testers."""
    stable = stable_member(route).service
    twins = {number for pair in _pairs(route) for number in pair}
    for number, rule in enumerate(route["spec"].get("rules", [])):
        if number in twins or (not twins and stable in _services(rule)):
            yield number, rule, arms_of(rule)


def towards_shares(route: Json, candidate: Member, wanted: Shares) -> Json:
    """The next route to write so that it asks for `wanted`; the same when nothing is left to do."""
    stable = stable_member(route)
    if laid_out(route) is None:
        return _opened(route, stable, candidate)
    now = shares(route)
    if now == wanted:
        return _written(route, lambda number, rule: content(rule, stable, candidate, ALL_STABLE), parked_one=True)
    if now is not None and now.arms == wanted.arms:
        return _written(route, lambda number, rule: content(rule, stable, candidate, wanted), parked_one=False)
    prepared = _written(route, lambda number, rule: content(rule, stable, candidate, wanted), parked_one=True)
    return _swapped(route) if prepared == route else prepared


def towards_rules(route: Json, candidate: Member, final: list[Json]) -> Json:
    """The next route to write so that its rules are `final`, without twins; the same when they are."""
    own = laid_out(route)
    if own is None and route["spec"]["rules"] == final:
        return route
    if own is None:
        return _opened(route, stable_member(route), candidate)
    if own != len(final) or not _pairs(route):  # its owner gave it other rules meanwhile
        return _closed(route, final)
    if _first_is_active(route) and _closed(route, final) == _closed(route, route["spec"]["rules"][:own]):
        return _closed(route, final)
    prepared = _written(route, lambda number, rule: {**final[number], "matches": rule["matches"]}, parked_one=True)
    return _swapped(route) if prepared == route else prepared


def promoted(route: Json, candidate: Member) -> list[Json]:
    """The route's own rules with the candidate as the stable arm."""
    own = laid_out(route)
    rules = [freed(rule) for rule in route["spec"]["rules"][:own]]
    leading = {first for first, _ in _pairs(route)}
    return [only(rule, candidate) if number in leading else rule for number, rule in enumerate(rules)]


def accepted(route: Json) -> bool:
    """Whether every gateway of the route took over what is written now, and found its backends."""
    generation = route["metadata"]["generation"]
    parents = route.get("status", {}).get("parents", [])
    return bool(parents) and all(_took_over(parent["conditions"], generation) for parent in parents)


def _took_over(conditions: list[Json], generation: int) -> bool:
    true = {
        c["type"] for c in conditions if c["status"] == "True" and c.get("observedGeneration", generation) == generation
    }
    return {"Accepted", "ResolvedRefs"} <= true


def _active(route: Json) -> list[Json]:
    """Rules with backends; where the route is laid out, of each pair the one that is not parked."""
    rules = route["spec"].get("rules", [])
    if laid_out(route) is None:
        return [rule for rule in rules if rule.get("backendRefs")]
    return [rules[number] for pair in _pairs(route) for number in pair if not is_parked(rules[number])]


def _opened(route: Json, stable: Member, candidate: Member) -> Json:
    """The route laid out for a rollout; what is answered stays as it is."""
    changed: Json = copy.deepcopy(route)
    rules = changed["spec"]["rules"]
    changed["metadata"]["annotations"] = {**changed["metadata"].get("annotations", {}), OWN: str(len(rules))}
    for rule in [rule for rule in rules if stable.service in _services(rule)]:
        rules.append(parked(content(rule, stable, candidate, ALL_STABLE)))
        rules += [for_testers(rule, stable, "stable"), for_testers(rule, candidate, "candidate")]
    return changed


def _written(route: Json, made: Callable[[int, Json], Json], *, parked_one: bool) -> Json:
    """The route with `made(number of the own rule, rule)` for each twin that is parked, or for each that is not."""
    changed: Json = copy.deepcopy(route)
    rules = changed["spec"]["rules"]
    for pair in _pairs(route):
        number = next(n for n in pair if is_parked(rules[n]) == parked_one)
        new = made(pair[0], freed(rules[number]))
        rules[number] = parked(new) if parked_one else new
    return changed


def _swapped(route: Json) -> Json:
    changed: Json = copy.deepcopy(route)
    rules = changed["spec"]["rules"]
    for pair in _pairs(route):
        for number in pair:
            rules[number] = freed(rules[number]) if is_parked(rules[number]) else parked(rules[number])
    return changed


def _closed(route: Json, rules: list[Json]) -> Json:
    changed: Json = copy.deepcopy(route)
    changed["spec"]["rules"] = copy.deepcopy(rules)
    changed["metadata"].get("annotations", {}).pop(OWN, None)
    return changed


def _first_is_active(route: Json) -> bool:
    return all(not is_parked(route["spec"]["rules"][own]) for own, _ in _pairs(route))


def _pairs(route: Json) -> list[tuple[int, int]]:
    """Numbers of each rule that leads to stable and of its twin; twins lie in the order of the rules."""
    own = laid_out(route)
    if own is None:
        return []
    rules = route["spec"]["rules"]
    found, number = [], 0
    for twin in range(own, len(rules), EXTRA):
        while number < own and not _services(rules[number]) & _services(rules[twin]):
            number += 1
        if number < own:
            found.append((number, twin))
        number += 1
    return found


def _services(rule: Json) -> set[str]:
    return {ref["name"] for ref in rule.get("backendRefs", [])}
