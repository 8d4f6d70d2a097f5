"""A dataset that a network learns in seconds: noisy squares of one colour a class, in groups of four."""

import cv2
import numpy as np

from core.dataset import Dataset, Sample

COLOURS = {"azure": (60, 120, 230), "brick": (200, 70, 50), "cobalt": (40, 60, 160), "dune": (220, 200, 140)}
SIDES = ("train",) * 14 + ("validation",) * 2 + ("test",) * 2 + ("final_eval",) * 2


def write_dataset(folder, store, rows=80, classes=3, side=16, synthetic=False):
    """Write `rows` images of each class, uint8 [side, side, 3] as PNG; returns the Dataset."""
    rng = np.random.default_rng(0)
    samples = []
    for label, colour in list(COLOURS.items())[:classes]:
        for index in range(rows):
            group = index // 4
            content = picture(rng, colour, side)
            samples.append(
                Sample(
                    id=f"{label}/{index:03d}.png",
                    sha256=store.put_blob(content),
                    label=label,
                    group=f"{label}/{group}",
                    split=SIDES[group % len(SIDES)],
                    width=side,
                    height=side,
                    dhash="0" * 16,
                )
            )
    return Dataset.write(folder, samples, workload="pills", image_size=32, synthetic=synthetic, source=folder.name)


def picture(rng, colour, side):
    """PNG bytes of a noisy image of about one colour."""
    pixels = np.asarray(colour) * rng.uniform(0.8, 1.1) + rng.normal(0, 25, (side, side, 3))
    return cv2.imencode(".png", pixels.clip(0, 255).astype(np.uint8)[..., ::-1])[1].tobytes()
