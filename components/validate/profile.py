"""What the images look like as a whole: sizes, shapes, colours, and a few of them to look at."""

import base64
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from components.validate.report import ColourProfile, SizeProfile, Spread
from core.dataset import Sample

SAMPLED = 400
"""Images whose colour is profiled: the standard error of a share is then at most 2.5 %."""

CLASSES_SHOWN = 24
"""Classes with example images; of more, the 12 largest and the 12 smallest."""

PER_CLASS = 6
PICTURE = 72
"""Pixels of an example's side."""

EDGES = (0, 16, 32, 64, 96, 128, 224, 384, 512, 1024, 2048, 4096)

Decode = Callable[[str, int], NDArray[np.uint8]]
"""(digest of a blob, side) -> uint8 [side, side, 3]."""


def sizes(samples: Sequence[Sample]) -> SizeProfile | None:
    """The profile of widths and heights; None without samples."""
    if not samples:
        return None
    width = np.array([sample.width for sample in samples], float)
    height = np.array([sample.height for sample in samples], float)
    shorter = np.histogram(np.minimum(width, height), [*EDGES, np.inf])[0]
    names = [*(f"{low} to {high - 1}" for low, high in itertools.pairwise(EDGES)), f"{EDGES[-1]} and more"]
    return SizeProfile(
        width=_spread(width),
        height=_spread(height),
        aspect=_spread(width / height),
        distinct=len({(sample.width, sample.height) for sample in samples}),
        shorter=tuple((name, int(count)) for name, count in zip(names, shorter, strict=True) if count),
    )


def colour(samples: Sequence[Sample], decode: Decode) -> ColourProfile | None:
    """The profile of SAMPLED samples (all, when they are fewer), the same ones each time; None without samples."""
    chosen = sorted(samples, key=lambda sample: sample.sha256)[:SAMPLED]
    if not chosen:
        return None
    pixels = np.stack([decode(sample.sha256, 64) for sample in chosen]).astype(np.float32)
    light = pixels.mean(axis=(1, 2, 3))
    chroma = (pixels.max(axis=3) - pixels.min(axis=3)).mean(axis=(1, 2))
    red, green, blue = (float(value) for value in pixels.mean(axis=(0, 1, 2)))
    deviation = [float(value) for value in pixels.std(axis=(0, 1, 2))]
    return ColourProfile(
        images=len(chosen),
        mean=(red, green, blue),
        std=(deviation[0], deviation[1], deviation[2]),
        brightness=tuple(int(count) for count in np.histogram(light, 16, (0, 256))[0]),
        grey=float((chroma < 2).mean()),
        flat=float((pixels.mean(axis=3).std(axis=(1, 2)) < 2).mean()),
    )


def examples(samples: Sequence[Sample], classes: Mapping[str, int], decode: Decode) -> dict[str, tuple[str, ...]]:
    """Up to PER_CLASS pictures of each shown class, largest class first."""
    ranked = sorted(classes, key=lambda label: (-classes[label], label))
    half = CLASSES_SHOWN // 2
    shown = ranked if len(ranked) <= CLASSES_SHOWN else [*ranked[:half], *ranked[-half:]]
    chosen: dict[str, list[Sample]] = {label: [] for label in shown}
    for sample in sorted(samples, key=lambda sample: sample.sha256):
        if sample.label in chosen and len(chosen[sample.label]) < PER_CLASS:
            chosen[sample.label].append(sample)
    return {label: tuple(picture(found.sha256, decode) for found in chosen[label]) for label in shown}


def picture(digest: str, decode: Decode) -> str:
    """One image as a data URI, PICTURE pixels square."""
    pixels: Any = decode(digest, PICTURE)
    encoded = simplejpeg.encode_jpeg(pixels, quality=80, colorspace="RGB")
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _spread(values: NDArray[np.float64]) -> Spread:
    least, p05, median, p95, most = (round(float(v), 3) for v in np.quantile(values, [0, 0.05, 0.5, 0.95, 1]))
    return Spread(least=least, p05=p05, median=median, p95=p95, most=most)
