"""The CustomResourceDefinition of `ModelRollout`, made from the classes that read it: `python -m titrate.operator.crd`.

Kubernetes wants a structural schema: no references, one shape for a union (its kinds' fields together; which belong
together is checked when the operator reads it), `nullable` for None, boolean exclusive limits. Defaults are left out:
the API server would write them into the spec, where they would outvote a preset.
"""

import sys
from typing import Any

import yaml

from serving.rollout.spec import RolloutSpec
from titrate.operator.resource import GROUP, PLURAL, VERSION, Extra, camel
from titrate.operator.status import Condition, Status

Json = dict[str, Any]
KEPT = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems")
COLUMNS = (
    ("Workload", "string", ".spec.workload", 0),
    ("Phase", "string", ".status.phase", 0),
    ("Step", "string", ".status.step", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Observed", "integer", ".status.observedWeight", 0),
    ("Requests", "integer", ".status.requests", 0),
    ("Candidate", "string", ".spec.candidate", 1),
    ("Reason", "string", ".status.reason", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
RULES = (
    ("has(self.preset) || (has(self.steps) && has(self.metrics))", "give a preset, or steps and metrics"),
    ("!has(self.stable) || self.stable != self.candidate", "candidate and stable are the same release"),
)


def definition() -> Json:
    """The whole object."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "ModelRollout",
                "plural": PLURAL,
                "singular": "modelrollout",
                "shortNames": ["mro"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "priority": priority}
                        for name, kind, path, priority in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": schema()},
                }
            ],
        },
    }


def schema() -> Json:
    """The shape of a ModelRollout."""
    wanted = structural(RolloutSpec.model_json_schema())
    wanted["properties"] |= structural(Extra.model_json_schema())["properties"]
    wanted["required"] = ["workload", "candidate"]
    wanted["properties"]["candidate"]["pattern"] = "^[0-9a-f]{64}$"
    wanted["properties"]["workload"]["pattern"] = "^[a-z]([a-z0-9_]{0,40}[a-z0-9])?$"
    wanted["x-kubernetes-validations"] = [{"rule": rule, "message": message} for rule, message in RULES]
    status = structural(Status.model_json_schema())
    status["properties"]["stableSpec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    condition = structural(Condition.model_json_schema())
    condition["properties"]["observedGeneration"] = {"type": "integer", "format": "int64"}
    status["properties"]["conditions"] = {
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }
    return {
        "type": "object",
        "description": "A candidate release earns its traffic, and loses it the moment the evidence says so.",
        "required": ["spec"],
        "properties": {"spec": wanted, "status": status},
    }


def structural(schema: Json) -> Json:
    """A pydantic JSON schema as Kubernetes wants it, keys in camelCase."""
    return _shape(schema, schema.get("$defs", {}))


def _shape(part: Json, known: Json) -> Json:
    if "$ref" in part:
        target = known[part["$ref"].rpartition("/")[2]]
        return _shape({**target, **{k: v for k, v in part.items() if k != "$ref"}}, known)
    if options := part.get("anyOf") or part.get("oneOf"):
        return _union(part, [_shape(option, known) for option in options])
    shape = {name: part[name] for name in KEPT if name in part}
    shape |= _value(part)
    if "properties" in part:
        shape["properties"] = {camel(name): _shape(item, known) for name, item in part["properties"].items()}
        if "required" in part:
            shape["required"] = sorted(camel(name) for name in part["required"])
    elif shape.get("type") == "object":
        shape["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in part:
        shape["items"] = _shape(part["items"], known)
    return shape


def _value(part: Json) -> Json:
    """What is said of one value otherwise than in JSON schema."""
    shape: Json = {}
    if "description" in part:
        shape["description"] = " ".join(str(part["description"]).split())
    if "const" in part:
        shape |= {"type": "string", "enum": [part["const"]]}
    for side, other in (("Minimum", "gt"), ("Maximum", "lt")):
        limit = part.get(f"exclusive{side}", part.get(other))
        if limit is not None:
            shape |= {side.lower(): limit, f"exclusive{side}": True}
    return shape


def _union(part: Json, options: list[Json]) -> Json:
    """One of some objects: their fields together. One of a value and null: the value, nullable."""
    real = [option for option in options if option.get("type") != "null"]
    first: Json = real[0]
    if len(real) > 1:
        first = {"type": "object", "properties": _together(real)}
        if required := set.intersection(*(set(option.get("required", ())) for option in real)):
            first["required"] = sorted(required)
    if len(real) < len(options):
        first = {**first, "nullable": True}
    if "description" in part:
        first = {**first, "description": " ".join(str(part["description"]).split())}
    return first


def _together(options: list[Json]) -> Json:
    fields: Json = {}
    for option in options:
        for name, field in option["properties"].items():
            known = fields.get(name)
            if known and "enum" in known and "enum" in field:
                field = {**field, "enum": [*known["enum"], *field["enum"]]}
            fields[name] = field
    return fields


def main() -> None:
    """Write the definition to standard output."""
    sys.stdout.write("# Made by `python -m titrate.operator.crd` from the classes that read it; do not edit.\n")
    yaml.safe_dump(definition(), sys.stdout, sort_keys=False, width=120)


if __name__ == "__main__":
    main()
