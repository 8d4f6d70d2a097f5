"""The schema on the API server is made from the classes that read a ModelRollout."""

from pathlib import Path

import yaml

from serving.rollout.spec import RolloutSpec
from titrate.operator import crd
from titrate.operator.resource import Extra, camel, snake

ROOT = Path(__file__).parents[4]


def test_the_committed_definition_is_what_the_classes_say():
    written = yaml.safe_load((ROOT / "kustomize/base/operator/crd.yaml").read_text())
    assert written == crd.definition(), "run: make crd"


def test_the_schema_is_structural_and_knows_every_field():
    spec = crd.schema()["properties"]["spec"]
    assert set(spec["properties"]) == {camel(name) for name in (*RolloutSpec.model_fields, *Extra.model_fields)}
    for part in parts(crd.schema()):
        assert not part.keys() & {"$ref", "$defs", "anyOf", "oneOf", "const", "default", "title"}
        if part.get("type") == "array":
            assert "items" in part


def parts(shape):
    if isinstance(shape, dict):
        yield from ([shape] if "type" in shape and isinstance(shape["type"], str) else [])
        for item in shape.values():
            yield from parts(item)


def test_names_go_over_and_back():
    for name in (*RolloutSpec.model_fields, *Extra.model_fields):
        assert snake(camel(name)) == name
