"""The command line as a user types it, and folders of images to type it on."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from sklearn.datasets import load_digits

QUICK = (
    "--set=train.images=400",
    "--set=train.min_epochs=1",
    "--set=image_size=32",
    "--set=export.int8=false",
    "--nproc=1",
)
"""Little training: for what does not depend on accuracy."""


def line(home: Path, *words: str) -> list[str]:
    """The command `titrate WORDS` in that home."""
    return [sys.executable, "-m", "titrate.cli", *words, "--home", str(home)]


def titrate(home: Path, *words: str, seconds: float = 580) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(line(home, *words), capture_output=True, text=True, timeout=seconds, check=False)


def write_digits(folder: Path, classes: int = 10) -> Path:
    """The real scans of scikit-learn's load_digits (1,797 of ten classes), as PNG in a folder for each."""
    scans = load_digits(n_class=classes)
    for number, (pixels, digit) in enumerate(zip(scans.images, scans.target, strict=True)):
        target = folder / str(digit)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels / 16 * 255).astype(np.uint8)).save(target / f"{number}.png")
    return folder


def write_noise(folder: Path, labels: int = 3, images: int = 80) -> Path:
    """Images that show nothing of their label: no network can learn them."""
    rng = np.random.default_rng(0)
    for label in range(labels):
        target = folder / f"class {label} ä'\""
        target.mkdir(parents=True)
        for number in range(images):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(target / f"{number}.png")
    return folder


def at_work(home: Path) -> list[psutil.Process]:
    """Every process that works in this home."""
    every = psutil.process_iter(["cmdline", "pid"])
    return [p for p in every if p.pid != os.getpid() and any(str(home) in word for word in p.info["cmdline"] or [])]
