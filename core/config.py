"""The base of every configuration: frozen, unknown keys refused, named by the digest of its content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import UserError, nearest


class Config(BaseModel):
    """One complete, immutable set of values. Field docstrings give the unit and why the default is what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def content_digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: equal configurations have equal digests on every machine."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, origin: str) -> Self:
        """The configuration in `text`; raises UserError that names `origin`, the key and the nearest known key."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{origin}: {explain(error, cls.model_fields)}") from error

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The configuration in a JSON file; raises UserError."""
        try:
            text = path.read_text()
        except OSError as error:
            raise UserError(f"cannot read the configuration {str(path)!r}: {error.strerror}") from error
        return cls.from_json(text, str(path))


C = TypeVar("C", bound=Config)


def with_values(base: C, values: Mapping[str, Any], origin: str) -> C:
    """`base` with `values` put in under dotted keys such as `train.lr`.

    Raises UserError for an unknown key, with the nearest, and for a value that cannot be, naming `origin`.
    """
    content = base.model_dump(mode="json")
    for key, value in values.items():
        _put(content, key, value)
    return type(base).from_json(json.dumps(content), origin)


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    place = content
    for name in folders:
        if not isinstance(place.get(name), dict):
            raise UserError(f"unknown key {key!r}; {nearest(name, place)}")
        place = place[name]
    if last not in place:
        raise UserError(f"unknown key {key!r}; {nearest(last, place)}")
    place[last] = value


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that digests are taken of: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def explain(error: ValidationError, known: Any) -> str:
    """The first problems of a validation in one line each, for people."""
    lines = []
    for item in error.errors()[:5]:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key {key!r}; {nearest(str(item['loc'][-1]), _keys_at(item['loc'][:-1], known))}")
        elif not key:  # what is wrong with the whole says so itself
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{key} = {item.get('input')!r}: {item['msg']}")
    return "; ".join(lines)


def _keys_at(path: tuple[int | str, ...], fields: Any) -> Any:
    """The keys that a section below `fields` knows; those of `fields` where the path leads into no section."""
    for part in path:
        section = getattr(fields[part], "annotation", None) if part in fields else None
        fields = getattr(section, "model_fields", fields)
    return fields
