"""What a release sees of rendered pills (simulated data): statistics, embeddings and answers, clean and corrupted.

12 classes at 96 px, every image with a camera session of its own, so that draws are independent. The network is a
small convolutional one that is trained here on other images at 48 px; the statistics are those of the pills workload.
"""

import itertools
import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from serving.drift.sample import Sample, Values
from workloads.pills import camera, features, render
from workloads.pills.camera import Corruption

CLASSES = 12
SIDE = 48
WIDTH = 64
"""Numbers of the embedding."""
TRAIN, REFERENCE, POOL, CORRUPTED = 2400, 1000, 3000, 800
EPOCHS, BATCH, RATE = 8, 64, 3e-3
SEED = 20_260_809
LEVELS = range(1, 6)


class Pools(NamedTuple):
    """Events to draw streams from."""

    reference: Sample
    clean: Sample
    truth: NDArray[np.int64]
    """Of the clean pool: the pill on each image."""
    corrupted: dict[tuple[Corruption, int], Sample]
    errors: tuple[int, int]
    """(images, wrong answers) of the reference."""


def pools() -> Pools:
    """Render, train, and compute all features: a minute or two of one core."""
    images, labels = photographs(TRAIN + REFERENCE + POOL)
    parts = np.split(np.arange(len(images)), [TRAIN, TRAIN + REFERENCE])
    network = trained(images[parts[0]], labels[parts[0]])
    old, new = (sample(network, images[part]) for part in parts[1:])
    broken = {
        (kind, level): sample(network, np.stack([camera.corrupt(image, kind, level) for image in images[rows]]))
        for kind, level in itertools.product(("blur", "colour"), LEVELS)
        for rows in [parts[2][(level - 1) % 3 :: 3][:CORRUPTED]]
    }
    wrong = int((old.predictions != labels[parts[1]]).sum())
    return Pools(old, new, labels[parts[2]], broken, (REFERENCE, wrong))


def photographs(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 [n, 96, 96, 3] of random pills, int64 [n]."""
    pills, rng = render.catalogue(CLASSES, SEED), np.random.default_rng(SEED)
    labels = rng.integers(0, CLASSES, count)
    images = [
        render.draw(
            pills[label],
            "back" if row % 2 else "front",
            camera.camera_session(SEED, row),
            np.random.default_rng((SEED, row)),
        )
        for row, label in enumerate(labels.tolist())
    ]
    return np.stack(images), labels


def trained(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> nn.Sequential:
    """The network after EPOCHS passes, with the images turned round and moved a little."""
    torch.manual_seed(SEED)
    network = nn.Sequential(
        nn.Sequential(*_block(3, 32), *_block(32, 64), *_block(64, 128), *_block(128, WIDTH, 1)),
        nn.Linear(WIDTH, CLASSES),
    )
    inputs, targets = prepared(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    steps = EPOCHS * math.ceil(len(inputs) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            shift = torch.randint(-2, 3, (2,)).tolist()
            batch = torch.roll(inputs[rows], shift, dims=(2, 3))
            loss = nn.functional.cross_entropy(network[1](network[0](batch).mean(dim=(2, 3))), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _block(inputs: int, outputs: int, stride: int = 2) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def prepared(images: NDArray[np.uint8]) -> torch.Tensor:
    """float32 [n, 3, SIDE, SIDE], -1 to 1."""
    small = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.inference_mode()
def sample(network: nn.Sequential, images: NDArray[np.uint8]) -> Sample:
    """What the release says of the images."""
    embedded = torch.cat([network[0](part).mean(dim=(2, 3)) for part in prepared(images).split(256)])
    answers = network[1](embedded).argmax(dim=1).numpy()
    described: Values = np.stack([features.statistics(image) for image in images]).astype(float)
    names = (*(f"embedding_{place}" for place in range(WIDTH)), *features.FEATURE_NAMES)
    values = np.hstack([embedded.numpy().astype(float), described])
    return Sample("simulated", names, values, answers, tuple(f"pill {number}" for number in range(CLASSES)))
