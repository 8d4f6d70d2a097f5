"""What clients may rely on, as pydantic models: the OpenAPI document; predictions are answered without them."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import Field
from pydantic.json_schema import models_json_schema

from core.config import Config
from core.events import Label
from serving.gateway.problems import MEDIA_TYPE, Code

REFERENCE = "#/components/schemas/{model}"
PREDICT_CODES = tuple(code for code in Code if code not in {Code.UNKNOWN_PATH, Code.FEEDBACK_UNAVAILABLE})
EXAMPLE_RELEASE = "3f1c9a" + "0" * 58
EXAMPLE_ID = "6f1d1a7c9d0e4b0e8a3f5c2b7d9e1a20-0"


class Alternative(Config):
    """One of the most probable labels."""

    label: str
    probability: float = Field(ge=0, le=1)


class ItemError(Config):
    """Why one image of several was refused."""

    code: str
    reason: str
    """The model's own word for it."""
    detail: str


class Item(Config):
    """The answer for one image: a prediction, or `error`."""

    prediction_id: str = Field(examples=[EXAMPLE_ID])
    """Name it when you send the right label later."""
    release: str = Field(examples=[EXAMPLE_RELEASE])
    """Digest of the release that answered."""
    label: str | None = Field(default=None, examples=["amoxicillin-500"])
    probability: float | None = Field(default=None, ge=0, le=1, examples=[0.97])
    """Calibrated."""
    top: list[Alternative] | None = None
    """The most probable labels, best first."""
    abstain: bool | None = None
    """True when the model is not sure enough for anyone to rely on the label."""
    error: ItemError | None = None


class Predictions(Config):
    """Answers in the order of the images."""

    predictions: list[Item]


class ProblemDocument(Config):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(json_schema_extra={"enum": [code.slug for code in Code]})
    """Stable: decide by this."""
    request_id: str
    reason: str | None = None
    """With `bad_image`: the model's own word for it."""
    prediction_id: str | None = None
    """With `bad_image`."""


class Labels(Config):
    """Right answers for earlier predictions."""

    labels: list[Label] = Field(max_length=10_000)


class LabelRow(Config):
    """What became of one label."""

    row: int
    result: str
    """stored, waiting (its event has not come), duplicate, contradicts (the first label stands), future or invalid."""
    reason: str = ""


class LabelReport(Config):
    """Row by row."""

    rows: list[LabelRow]


class ServedModel(Config):
    """One model that is served."""

    workload: str
    versions: list[str]
    max_batch: int
    """Images in one execution."""


class ServedModels(Config):
    """Those that answer now, in the order of the gateway's settings."""

    models: list[ServedModel]


def reference(model: type[Config]) -> dict[str, str]:
    """The schema of a model, by its name."""
    return {"$ref": REFERENCE.format(model=model.__name__)}


def problem_responses(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for these codes, by status."""
    by_status: dict[int | str, list[Code]] = {}
    for code in codes:
        by_status.setdefault(code.value[0], []).append(code)
    return {
        status: {
            "description": "; ".join(f"`{code.slug}`: {code.value[1]}" for code in group),
            "content": {MEDIA_TYPE: {"schema": reference(ProblemDocument)}},
        }
        for status, group in by_status.items()
    }


def predict_operation() -> dict[str, Any]:
    """The OpenAPI operation of `POST /v1/predict`."""
    image = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"}
    forms = {"image": image, "images": {"type": "array", "items": image, "minItems": 1}, "url": {"type": "string"}}
    one_of = [
        {"type": "object", "properties": {key: form}, "required": [key], "additionalProperties": False}
        for key, form in forms.items()
    ]
    upload = {
        "type": "object",
        "properties": {"image": {"type": "string", "format": "binary"}},
        "required": ["image"],
    }
    examples = {
        "one": {"summary": "One image, base64", "value": {"image": "iVBORw0KGgo="}},
        "several": {"summary": "Several images", "value": {"images": ["iVBORw0KGgo=", "iVBORw0KGgo="]}},
        "url": {"summary": "An image on an allowed host", "value": {"url": "https://images.example.org/pill.jpg"}},
    }
    return {
        "summary": "Predict",
        "description": "Images as a multipart upload (every part is one image), as base64, or one URL.",
        "operationId": "predict",
        "parameters": [{"name": "workload", "in": "query", "required": False, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": upload},
                "application/json": {"schema": {"oneOf": one_of}, "examples": examples},
            },
        },
        "responses": {
            "200": {
                "description": "One item for each image, in order. An image that cannot be used fails alone.",
                "content": {"application/json": {"schema": reference(Predictions)}},
            },
            **{str(status): answer for status, answer in problem_responses(*PREDICT_CODES).items()},
        },
    }


def openapi(app: FastAPI) -> dict[str, Any]:
    """The schema of the whole API."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models = (Predictions, ProblemDocument, Labels, LabelReport, ServedModels)
    _, definitions = models_json_schema([(model, "serialization") for model in models], ref_template=REFERENCE)
    schema["paths"]["/v1/predict"] = {"post": predict_operation()}
    schema.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return schema
