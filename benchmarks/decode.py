"""Decode-and-resize of the pills workload against PIL: `python benchmarks/decode.py [--quick]` (1 if under 1.75 x PIL).

Two cases are judged, JPEG files cut from scikit-learn's two photographs: 224 x 224 kept at 224, and 1000 x 750 brought
to 224. PIL does what a loader of today does: open, convert, resize (bilinear), as an array. PIL told to scale in the
DCT (`draft`) is for information, and so is 500 x 375, the usual size in ImageNet.

In a round each way passes over all files several times, as a loader does; the CPU time of the one thread is taken and
the fastest pass of each file counts (the others measure the neighbours on the machine). Where buffers happen to lie
moves PIL by a factor of up to 1.5 and ours by 1.1 (no page faults: cache sets), so every round begins with a new
ballast on the heap; the ratio of the mean times over all rounds is judged, the range of a round's ratio is shown.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from workloads.pills.preprocess import decode

BAR, SIZE = 1.75, 224
QUALITY = 75  # the default of PIL and libjpeg
CASES = {(224, 224): True, (1000, 750): True, (500, 375): False}  # width and height, judged or not
Way = Callable[[bytes, int], object]


def by_pil(content: bytes, size: int, draft: bool = False) -> object:
    """uint8 [h, w, 3] whose longer side is `size`."""
    image = Image.open(io.BytesIO(content))
    scale = size / max(image.size)
    target = (round(image.width * scale), round(image.height * scale))
    if draft:
        image.draft("RGB", target)
    return np.asarray(image.convert("RGB").resize(target, Image.Resampling.BILINEAR))


WAYS: dict[str, Way] = {
    "ours": decode,
    "PIL": by_pil,
    "PIL draft": lambda content, size: by_pil(content, size, draft=True),
}


def files(width: int, height: int, count: int) -> list[bytes]:
    """JPEG files of one size: pieces of two photographs, the same ones each time."""
    rng = np.random.default_rng(0)
    out = []
    for number in range(count):
        photograph = Image.fromarray(load_sample_images().images[number % 2])
        high = int(rng.uniform(0.7, 1) * photograph.height)
        wide = min(photograph.width, high * width // height)
        left, top = int(rng.integers(photograph.width - wide + 1)), int(rng.integers(photograph.height - high + 1))
        piece = photograph.crop((left, top, left + wide, top + high)).resize((width, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        piece.save(buffer, "JPEG", quality=QUALITY)
        out.append(buffer.getvalue())
    return out


def one_round(contents: list[bytes], passes: int, seed: int) -> dict[str, float]:
    """CPU time of an image, microseconds, by each way: the fastest pass over each file, averaged over the files."""
    rng = np.random.default_rng(seed)
    ballast = [bytearray(int(size)) for size in rng.integers(1, 1 << 17, 200)]
    result = {}
    for name, way in WAYS.items():
        del ballast[:: int(rng.integers(2, 9))]
        took = np.zeros((passes, len(contents)))
        for number in range(passes):
            for index, content in enumerate(contents):
                start = time.thread_time_ns()
                way(content, SIZE)
                took[number, index] = time.thread_time_ns() - start
        result[name] = float(took.min(axis=0).mean()) / 1000
    return result


def judge(case: tuple[int, int], rounds: int, count: int, passes: int) -> bool:
    """Print one line of the table; False when a judged case misses the bar."""
    contents = files(*case, count)
    table = [one_round(contents, passes, seed) for seed in range(rounds)]
    ratios = [row["PIL"] / row["ours"] for row in table]
    mean = {name: statistics.mean(row[name] for row in table) for name in WAYS}
    ratio, draft = mean["PIL"] / mean["ours"], mean["PIL draft"] / mean["ours"]
    met = ratio >= BAR
    times = " ".join(f"{value:9.0f}" for value in mean.values())
    note = f"bar {BAR} {'met' if met else 'MISSED'}" if CASES[case] else ""
    span = f"{ratio:5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{case[0]} x {case[1]:<10} {times}   {span:22} {draft:8.2f}   {note}")
    return met or not CASES[case]


def main(arguments: list[str]) -> int:
    """Print the table; 1 when a judged case misses the bar."""
    quick = "--quick" in arguments
    rounds, count, passes = (15, 4, 3) if quick else (31, 16, 4)
    cv2.setNumThreads(1)
    print(f"{f'to {SIZE} from':16} {'ours us':>9} {'PIL us':>9} {'draft us':>9}   PIL : ours (range)     draft : ours")
    cases = [case for case, judged in CASES.items() if judged or not quick]
    verdicts = [judge(case, rounds, count, passes) for case in cases]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
