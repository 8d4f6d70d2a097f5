"""The container images a step names: one name per role, tagged with the version of Titrate that was compiled."""

from typing import Literal

VERSION = "0.1.0"  # the version in pyproject.toml; a test holds them equal

Role = Literal["train", "serve", "operator"]


def image(role: Role) -> str:
    """The image of a role, for example `titrate/train:0.1.0`: a fixed tag, never `latest`."""
    return f"titrate/{role}:{VERSION}"


TRAIN_IMAGE = image("train")
