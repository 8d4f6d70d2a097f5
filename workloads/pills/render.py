"""Synthetic pills for staging and tests (D10), drawn from a seed; no claim about real pills rests on them.

Pills of one family share their colours, and pairs of them their shape, so that only imprint and score tell them apart.
Every pill has camera sessions of its own (`camera.py`), so that no session is on two sides of a split. The folder that
`write_folder` leaves is one that `data.read_source` reads.
"""

import functools
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg

from core.config import Config, canonical_json
from core.errors import UserError
from core.files import new_folder
from workloads.pills.camera import SIZE, Floats, Pixels, Session, camera_session, expose, view

Side = Literal["front", "back"]
Score = Literal["none", "line", "cross"]

VERSION = 1
TEXTURE = 128  # pixels of a pill's flat drawing, before it is turned and placed
LEVEL, STEP = 128, 0.4 / 127  # of a slope as a byte
SOFT = 3.5  # Gaussian sigma of the shadow's edge, pixels of the flat drawing
FAMILY = 4  # pills that share their colours
QUALITY = 92  # of the JPEG files: what phones write
EPOCH = datetime(2024, 1, 1, 8, tzinfo=UTC)
CHARACTERS = "ABEHKLMNPRTXZ234579"  # no two that look alike at 64 px
SCORES: tuple[Score, ...] = ("none", "line", "cross")
# Half width and half height of the outline, half length of its straight part, exponent p of |x|^p + |y|^p at its ends
# (2 is a circle, more is square), half width and half height that an imprint may fill; 1 is half the drawing.
SHAPES = {
    "round": (0.76, 0.76, 0.0, 2.0, 0.56, 0.40),
    "capsule": (0.94, 0.46, 0.48, 2.0, 0.68, 0.30),
    "square": (0.72, 0.72, 0.0, 7.0, 0.56, 0.44),
    "oval": (0.92, 0.62, 0.0, 2.2, 0.64, 0.32),
    "diamond": (0.90, 0.84, 0.0, 1.25, 0.52, 0.32),
}
COLOURS = {
    "white": (236, 235, 228),
    "yellow": (232, 204, 92),
    "pink": (231, 150, 160),
    "blue": (104, 152, 208),
    "green": (128, 184, 124),
    "orange": (226, 140, 74),
    "lilac": (170, 138, 196),
    "brown": (150, 98, 72),
    "ivory": (230, 214, 176),
    "grey": (150, 154, 158),
}


class Pill(Config):
    """What one class looks like."""

    label: str
    shape: str
    """A key of SHAPES."""
    colours: tuple[str, ...]
    """Keys of COLOURS: one, or two for the two halves."""
    front: str
    """Imprint of the front."""
    back: str
    """Imprint of the back."""
    score: Score
    """The groove on the back that a pill is broken along."""


class Rendering(Config):
    """What `dataset.json` of a rendered folder says; equal renderings hold equal bytes."""

    synthetic: Literal[True] = True
    renderer: int = VERSION
    classes: int
    images_per_class: int
    sessions: int
    """Camera sessions of each class."""
    size: int
    """Side of an image, pixels."""
    seed: int
    first: int = 0
    """Index of the first image of each class: what a larger rendering adds to a smaller one."""


def catalogue(classes: int, seed: int) -> list[Pill]:
    """`classes` pills, all different; every second family has two colours."""
    rng = np.random.default_rng((seed, 1))
    names, shapes = rng.permutation(list(COLOURS)).tolist(), rng.permutation(list(SHAPES)).tolist()
    pills: dict[str, Pill] = {}
    while len(pills) < classes:
        family, member = divmod(len(pills), FAMILY)
        first, second = names[family % len(names)], names[(family * 3 + family // len(names) + 1) % len(names)]
        shape = shapes[(2 * family + member // 2) % len(shapes)]
        pill = _pill(shape, (first, second) if family % 2 and first != second else (first,), rng)
        pills.setdefault(pill.label, pill)
    return list(pills.values())


def _pill(shape: str, colours: tuple[str, ...], rng: np.random.Generator) -> Pill:
    front, back = ("".join(rng.choice(list(CHARACTERS), count, replace=False)) for count in (3, 2))
    label = "-".join((*colours, shape, front, back))
    return Pill(label=label, shape=shape, colours=colours, front=front, back=back, score=SCORES[rng.integers(3)])


def write_folder(
    target: Path, classes: int = 12, images_per_class: int = 240, sessions: int = 24, size: int = SIZE, seed: int = 0
) -> Path:
    """Draw a data set into the new folder `target`, an image at a time; returns `target`.

    A folder that holds this very rendering is left as it is; UserError when it holds anything else.
    """
    rendering = Rendering(classes=classes, images_per_class=images_per_class, sessions=sessions, size=size, seed=seed)
    mark = canonical_json(rendering.model_dump(mode="json")) + "\n"
    if target.exists():
        if (target / "dataset.json").is_file() and (target / "dataset.json").read_text() == mark:
            return target
        raise UserError(f"{str(target)!r} exists and holds something else: name a new folder")
    with new_folder(target) as draft, (draft / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for row, image in photographs(rendering):
            path = draft / row["path"]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(simplejpeg.encode_jpeg(image, quality=QUALITY, colorspace="RGB", colorsubsampling="420"))
            manifest.write(canonical_json(row) + "\n")
        (draft / "dataset.json").write_text(mark)
    return target


def photographs(rendering: Rendering) -> Iterator[tuple[dict[str, Any], Pixels]]:
    """Each manifest row with its image, uint8 [size, size, 3]; one session after the other, the sides in turn."""
    for number, pill in enumerate(catalogue(rendering.classes, rendering.seed)):
        for index in range(rendering.first, rendering.images_per_class):
            sitting = index * rendering.sessions // rendering.images_per_class
            side: Side = "back" if index % 2 else "front"
            rng = np.random.default_rng((rendering.seed, 3, number, index))
            image: Any = draw(pill, side, camera_session(rendering.seed, 2, number, sitting), rng)
            if rendering.size != SIZE:
                image = cv2.resize(image, (rendering.size, rendering.size), interpolation=cv2.INTER_AREA)
            group = f"{pill.label}/{sitting:03d}"
            taken_at = EPOCH + timedelta(days=sitting, minutes=number, seconds=index)
            yield (
                {
                    "path": f"{group.replace('/', '/s')}-{index:04d}-{side}.jpg",
                    "label": pill.label,
                    "group": group,
                    "side": side,
                    "taken_at": taken_at.isoformat(),
                },
                image,
            )


def draw(pill: Pill, side: Side, session: Session, rng: np.random.Generator) -> Pixels:
    """One photograph, uint8 [96, 96, 3] RGB: the pill turned by up to 20 degrees, somewhere near the middle."""
    flat, form = _drawing(pill, side)
    angle, scale = rng.uniform(-20, 20), rng.uniform(0.66, 0.76)
    place: Any = cv2.getRotationMatrix2D((TEXTURE / 2, TEXTURE / 2), angle, scale)
    place[:, 2] += (SIZE - TEXTURE) / 2 + rng.uniform(-5, 5, 2)
    coat: Any = cv2.warpAffine(flat, place, (SIZE, SIZE))
    relief: Any = cv2.warpAffine(form, place, (SIZE, SIZE), borderValue=(LEVEL, LEVEL, 0))
    across, down = _direction(session.light + math.radians(angle)) * np.float32(session.strength * STEP)
    shade = relief.astype(np.float32) @ np.array([across, down, 0], dtype=np.float32)
    shade += np.float32(0.94 - LEVEL * (across + down))
    shadow = _moved(relief[..., 2], -3 * _direction(session.light))
    cover = _coloured(coat[..., 3]) * np.float32(1 / 255)
    scene = view(session, rng)
    scene *= 1 - _coloured(shadow) * np.float32(0.4 / 255)
    scene += cover * (cv2.cvtColor(coat, cv2.COLOR_RGBA2RGB) * _coloured(shade) - scene)
    return expose(scene, session, rng)


def _direction(angle: float) -> Floats:
    return np.array([math.cos(angle), math.sin(angle)], dtype=np.float32)


def _coloured(plane: Any) -> Any:
    """[h, w] as [h, w, 3]: three equal channels are many times faster to compute with than one that is broadcast."""
    return cv2.cvtColor(np.ascontiguousarray(plane), cv2.COLOR_GRAY2RGB)


def _moved(plane: Any, way: Floats) -> Any:
    """The plane [h, w] moved by whole pixels right and down; what comes in is 0."""
    right, down = (round(float(part)) for part in way)
    moved = np.zeros_like(plane)
    moved[max(down, 0) : SIZE + min(down, 0), max(right, 0) : SIZE + min(right, 0)] = plane[
        max(-down, 0) : SIZE - max(down, 0), max(-right, 0) : SIZE - max(right, 0)
    ]
    return moved


@functools.lru_cache(maxsize=64)
def _drawing(pill: Pill, side: Side) -> tuple[Pixels, Pixels]:
    """The pill seen from above: colour and cover, uint8 [128, 128, 4]; its form, uint8 [128, 128, 3]: the slopes of its
    relief in steps of STEP around LEVEL, and the darkness below it."""
    wide, high, straight, power, *room = SHAPES[pill.shape]
    axis = np.linspace(-1, 1, TEXTURE, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    ends = np.maximum(np.abs(x) - np.float32(straight), 0) / np.float32(wide - straight)
    rim = (ends**power + np.abs(y / np.float32(high)) ** power) ** (1 / power)  # 0 in the middle, 1 at the rim
    depth = (1 - rim) * np.float32(min(wide, high) * TEXTURE / 2)  # pixels inside the rim, nearly
    cut = _imprint(pill.front, *room) if side == "front" else _back(pill, rim, *room)
    flat = np.empty((TEXTURE, TEXTURE, 4), dtype=np.float32)
    halves = [np.asarray(COLOURS[name], dtype=np.float32) for name in pill.colours]
    flat[..., :3] = np.where((x < 0)[..., None], halves[0], halves[-1]) * (1 - np.float32(0.55) * cut[..., None])
    cover = np.clip(depth + np.float32(0.5), 0, 1)
    flat[..., 3] = 255 * cover
    height = 5 * np.sin(np.clip(depth / 14, 0, 1) * np.float32(math.pi / 2)) - 2 * cv2.GaussianBlur(cut, (0, 0), 1)
    slopes = [cv2.Sobel(height, cv2.CV_32F, *way) / 10 for way in ((1, 0), (0, 1))]
    form = [LEVEL + np.clip(slope, -0.4, 0.4) * cover / STEP for slope in slopes]
    shadow = 255 * cv2.GaussianBlur(cover, (0, 0), SOFT)
    return np.rint(flat).astype(np.uint8), np.rint(np.stack([*form, shadow], axis=-1)).astype(np.uint8)


def _back(pill: Pill, rim: Floats, half_width: float, half_height: float) -> Floats:
    """Imprint and groove: a line parts the two characters, a cross is cut in from the rim only."""
    text = " ".join(pill.back) if pill.score == "line" else pill.back
    grooved = (rim < 0.9) if pill.score == "line" else (rim > 0.65) & (rim < 0.9)
    return np.maximum(_imprint(text, half_width, half_height), np.where(grooved, _groove(pill.score), 0))


def _imprint(text: str, half_width: float, half_height: float) -> Floats:
    """The characters, as large as the room allows: float32 [128, 128], 1 where the coat is cut."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 5
    (width, height), _ = cv2.getTextSize(text, font, 1, thickness)
    scale = min(half_width * TEXTURE / width, half_height * TEXTURE / height)
    (width, height), _ = cv2.getTextSize(text, font, scale, thickness)
    corner = ((TEXTURE - width) // 2, (TEXTURE + height) // 2)
    canvas = np.zeros((TEXTURE, TEXTURE), dtype=np.uint8)
    cv2.putText(canvas, text, corner, font, scale, (255,), thickness, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def _groove(score: Score) -> Floats:
    """A line, or two that cross, through the middle: float32 [128, 128]."""
    canvas, middle = np.zeros((TEXTURE, TEXTURE), dtype=np.uint8), TEXTURE // 2
    if score != "none":
        cv2.line(canvas, (middle, 0), (middle, TEXTURE), (255,), 4, cv2.LINE_AA)
    if score == "cross":
        cv2.line(canvas, (0, middle), (TEXTURE, middle), (255,), 4, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255
