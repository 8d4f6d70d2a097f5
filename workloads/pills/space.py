"""What a sweep of the image classifier tries around a recipe."""

from workloads.pills.recipes import PillsConfig
from workloads.space import Choice, Range, Space, Uniform

SIDES = (32, 48, 64, 96)
"""Sides of the input that a folder's profile may choose from as well: accuracy is bought with latency here."""


def space(config: PillsConfig) -> Space:
    """Rate, decay and augmentation around those of `config`; the input's side where `config` leaves it open."""
    rate = config.train.lr
    keys: dict[str, Range] = {
        "train.lr": Uniform(low=rate / 10, high=rate * 4, log=True, midway=True),
        "train.weight_decay": Uniform(low=1e-5, high=5e-3, log=True, midway=True),
        "train.label_smoothing": Uniform(low=0.0, high=0.2, midway=True),
        "train.warmup": Uniform(low=0.05, high=0.3),
        "train.batch": Choice(options=(config.train.batch // 2, config.train.batch, config.train.batch * 2)),
        "augment.shift": Uniform(low=0.0, high=0.15, midway=True),
        "augment.scale": Uniform(low=0.0, high=0.25, midway=True),
        "augment.rotation": Uniform(low=0.0, high=30.0, midway=True),
        "augment.contrast": Uniform(low=0.0, high=0.4, midway=True),
    }
    if config.image_size is None:
        keys["image_size"] = Choice(options=SIDES)
    return Space(keys=keys)
