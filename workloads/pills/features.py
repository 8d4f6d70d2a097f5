"""Numbers that describe an image without a network: F02's features, and the hash that finds near-duplicates.

Drift compares their distribution with the reference; ingest and validate compare hashes. All on uint8 [h, w, 3] RGB.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

BINS = 8  # of each colour's histogram
LEVELS = 16  # of grey in the co-occurrence matrix: enough for texture, few enough to fill
FEATURE_NAMES = (
    "shape_ratio",
    *(f"{colour}_{step}" for colour in ("red", "green", "blue") for step in range(BINS)),
    "texture_contrast",
    "texture_entropy",
)


def statistics(image: Pixels) -> Floats:
    """float32 [27], in the order of FEATURE_NAMES (F02)."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return np.array([shape_ratio(grey), *histograms(image), *texture(grey)], dtype=np.float32)


def shape_ratio(grey: Pixels) -> float:
    """Short by long axis of what stands out from the border, 0 to 1; 1 is round, and the answer when nothing does.

    The axes are those of the ellipse with the same second moments (Hu 1962); each pixel weighs its distance in grey
    from the border's median, less the border's own spread.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(np.float32)
    level = np.float32(np.median(border))
    spread = np.float32(np.abs(border - level).mean() * 3 + 8)
    weight = np.maximum(np.abs(grey.astype(np.float32) - level) - spread, 0).clip(max=32)
    moments = cv2.moments(weight)
    if moments["m00"] <= 0:
        return 1.0
    across, along = moments["mu20"], moments["mu02"]
    root = math.hypot(across - along, 2 * moments["mu11"])
    longest, shortest = across + along + root, across + along - root
    return math.sqrt(max(shortest, 0) / longest) if longest > 0 else 1.0


def histograms(image: Pixels) -> Floats:
    """The share of pixels in each of 8 equal steps of red, green and blue: float32 [24]."""
    flat = (image >> 5).reshape(-1, 3)
    counts = np.concatenate([np.bincount(flat[:, channel], minlength=BINS) for channel in range(3)])
    return (counts / len(flat)).astype(np.float32)


def texture(grey: Pixels) -> tuple[float, float]:
    """Contrast, and entropy in bits, of how grey levels meet right and lower neighbours (Haralick et al. 1973)."""
    steps = grey.astype(np.uint16) >> 4
    right = steps[:, :-1] * LEVELS + steps[:, 1:]
    below = steps[:-1] * LEVELS + steps[1:]
    counts = np.bincount(np.concatenate([right.ravel(), below.ravel()]), minlength=LEVELS * LEVELS)
    share = counts[counts > 0] / max(1, counts.sum())
    first, second = np.divmod(np.flatnonzero(counts), LEVELS)
    return float((share * (first - second) ** 2).sum()), float(-(share * np.log2(share)).sum())


def dhash64(image: Pixels) -> int:
    """The difference hash: 64 bits, each whether a cell of 8 x 9 is brighter than its right neighbour (Krawetz 2013).

    Copies that were scaled, recompressed or relit differ in few bits.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA))
    return int.from_bytes(np.packbits(cells[:, :-1] > cells[:, 1:]).tobytes(), "big")
