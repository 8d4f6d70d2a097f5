"""The camera of the synthetic pills: what all images of one sitting share, and how a camera breaks (D10).

A session has its own light, white balance, table and blur. `corrupt` is what drift demonstrations feed a release with.
"""

import functools
import math
import zlib
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from core.config import Config

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Corruption = Literal["blur", "colour", "noise", "dark"]

SIZE = 96  # pixels of a photograph
NOISES = 2**19  # numbers of which each photograph takes a part
TABLE = 192  # pixels of the session's table, of which each photograph shows a piece
TABLES = ((206, 204, 198), (120, 122, 126), (86, 104, 122), (172, 146, 114), (60, 62, 66), (196, 206, 202))
# By level 1 to 5. At 1 a person hardly sees it, at 5 a person cannot read the imprint of most pills.
BLUR = (0.8, 1.4, 2.2, 3.2, 4.5)  # Gaussian sigma, pixels at 96
NOISE = (8, 16, 26, 38, 55)  # sigma, in units of 0 to 255
DARK = (0.75, 0.55, 0.40, 0.28, 0.18)  # exposure, as a factor
COLOUR = (0.10, 0.20, 0.30, 0.45, 0.60)  # how much red gains and blue loses


class Session(Config):
    """One sitting at one camera."""

    seed: int
    table: tuple[int, int, int]
    """RGB of what the pills lie on, 0 to 255."""
    grain: float
    """Contrast of the table's texture, in units of 0 to 255."""
    gains: tuple[float, float, float]
    """White balance and exposure: factors of R, G and B."""
    light: float
    """Where the light comes from, radians."""
    strength: float
    """How much the light models the relief; 0 is flat."""
    blur: float
    """Gaussian sigma of the lens, pixels at 96."""
    noise: float
    """Sigma of the sensor's noise, in units of 0 to 255."""


def camera_session(*seed: int) -> Session:
    """The session that belongs to these numbers."""
    rng = np.random.default_rng(seed)
    exposure = rng.uniform(0.82, 1.12)
    red, green, blue = (float(exposure * gain) for gain in rng.normal(1, 0.05, 3))
    return Session(
        seed=int(rng.integers(2**31)),
        table=TABLES[rng.integers(len(TABLES))],
        grain=float(rng.uniform(2, 14)),
        gains=(red, green, blue),
        light=float(rng.uniform(0, 2 * math.pi)),
        strength=float(rng.uniform(0.5, 1)),
        blur=float(rng.uniform(0.3, 0.8)),
        noise=float(rng.uniform(1, 5)),
    )


def view(session: Session, rng: np.random.Generator) -> Floats:
    """A piece of the session's table, float32 [96, 96, 3] in units of 0 to 255, before the sensor."""
    table = _table(session)
    top, left = rng.integers(0, TABLE - SIZE, 2)
    piece: Floats = table[top : top + SIZE, left : left + SIZE] * np.float32(rng.uniform(0.95, 1.05))
    return piece


def expose(scene: Floats, session: Session, rng: np.random.Generator) -> Pixels:
    """What the sensor makes of the scene: gains, the lens's blur, noise; uint8 of the same shape."""
    gains: Any = (*session.gains, 0.0)  # as a scalar of OpenCV's: fast, and not in its types
    lit = cv2.multiply(scene, gains)
    start = rng.integers(NOISES - scene.size)
    noise = _noise()[start : start + scene.size].reshape(scene.shape)
    return _pixels(cv2.GaussianBlur(lit, (0, 0), session.blur) + noise * np.float32(session.noise))


def corrupt(image: Pixels, kind: Corruption, level: int) -> Pixels:
    """The image uint8 [h, w, 3] as a broken camera gives it, `level` 1 to 5; equal images break equally."""
    scene = image.astype(np.float32)
    step = level - 1
    if kind == "blur":
        return _pixels(cv2.GaussianBlur(scene, (0, 0), BLUR[step] * max(image.shape[:2]) / SIZE))
    if kind == "colour":
        return _pixels(scene * np.array([1 + COLOUR[step], 1, 1 - COLOUR[step]], dtype=np.float32))
    if kind == "dark":
        return _pixels(scene * np.float32(DARK[step]))
    rng = np.random.default_rng(zlib.crc32(image.tobytes()))
    return _pixels(scene + rng.standard_normal(scene.shape, dtype=np.float32) * np.float32(NOISE[step]))


@functools.cache
def _noise() -> Floats:
    """Standard normal numbers; drawing them anew for each photograph takes as long as all the rest."""
    return np.random.default_rng(0).standard_normal(NOISES, dtype=np.float32)


@functools.lru_cache(maxsize=64)
def _table(session: Session) -> Floats:
    """The session's table, float32 [192, 192, 3]: grain at two scales over one colour."""
    rng = np.random.default_rng(session.seed)
    fine = rng.standard_normal((TABLE, TABLE), dtype=np.float32)
    cells = (int(rng.integers(6, 48)), int(rng.integers(6, 48)))  # unequal: wood; equal: cloth, laminate
    coarse = cv2.resize(rng.standard_normal(cells, dtype=np.float32), (TABLE, TABLE), interpolation=cv2.INTER_CUBIC)
    grain = (np.float32(0.3) * fine + coarse) * np.float32(session.grain)
    table: Floats = np.asarray(session.table, dtype=np.float32) + grain[..., None]
    return table


def _pixels(scene: Any) -> Pixels:
    result: Pixels = np.minimum(np.maximum(scene, 0), 255).astype(np.uint8)
    return result
