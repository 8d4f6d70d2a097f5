"""From the stored images to training batches: decoded once into a memory-mapped cache, augmented while they are read.

Everything random follows from (seed, epoch, step): a resumed run reads the very batches that an uninterrupted one
would have. Augmentation costs a hundredth of the training step it feeds, so there are no worker processes to lose.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from core.dataset import Dataset, DatasetInfo, Sample
from core.errors import DataError
from core.files import sha256_bytes, sha256_file
from core.objects import Store
from workloads.pills import preprocess
from workloads.pills.recipes import AugmentConfig, PillsConfig

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]

CACHE_BYTES = 8 * 2**30
"""Largest cache, all datasets together: 290,000 images of 96 px. A dataset that is larger is decoded as it is read."""
CHUNK = 256  # images decoded between two writes
EVALUATED = 64
"""Images of one batch that is not trained on."""
WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Decoder:
    """Images of some samples, decoded when they are read."""

    def __init__(self, samples: Sequence[Sample], store: Store, side: int) -> None:
        self._samples, self._store, self._side = samples, store, side
        self.shape = (len(samples), side, side, 3)

    def __getitem__(self, rows: NDArray[np.int64]) -> Pixels:
        """uint8 [n, side, side, 3]; raises DataError naming the sample that cannot be decoded."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return np.stack(list(pool.map(self._decode, (self._samples[row] for row in rows))))

    def _decode(self, sample: Sample) -> Pixels:
        try:
            return preprocess.decode(self._store.blob(sample.sha256), self._side)
        except preprocess.BadImage as error:
            raise DataError(f"{sample.id!r}: {error.reason}", [(sample.id, error.reason)]) from error


def decoded(dataset: Dataset, side: int, store: Store, cache: Path) -> "Decoder | Pixels":
    """Images of all samples, by row: a read-only memory map where it fits into the cache, else a Decoder."""
    decoder = Decoder(dataset.samples, store, side)
    size = int(np.prod(decoder.shape))
    if size > CACHE_BYTES:
        return decoder
    code = sha256_file(Path(preprocess.__file__))[:8]
    path = cache / f"{dataset.info.digest[:16]}-{side}-{code}.npy"
    if not path.exists():
        _make_room(cache, size)
        _write(path, decoder)
    path.touch()
    images: Pixels = np.load(path, mmap_mode="r")
    return images


def _write(path: Path, decoder: Decoder) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        # numpy 1.26 does not annotate it
        images = np.lib.format.open_memmap(draft, "w+", np.uint8, decoder.shape)  # type: ignore[no-untyped-call]
        _reserve(draft)
        for start in range(0, decoder.shape[0], CHUNK):
            rows = np.arange(start, min(start + CHUNK, decoder.shape[0]))
            images[rows] = decoder[rows]
        images.flush()
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _reserve(path: Path) -> None:
    """Take the file's room on the disk: a memory map that finds none while it is written ends the process (SIGBUS)."""
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            error.filename = str(path)
            raise


def _make_room(cache: Path, need: int) -> None:
    """Remove the files that were not read for longest, until `need` bytes more are within CACHE_BYTES."""
    cache.mkdir(parents=True, exist_ok=True)
    files = sorted(cache.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    total = need + sum(file.stat().st_size for file in files)
    for file in files:
        if total <= CACHE_BYTES:
            return
        total -= file.stat().st_size
        file.unlink()


def parts(samples: Iterable[Sample], share: float) -> tuple[list[Sample], list[Sample]]:
    """(selection, calibration): the samples in two by whole groups, `share` of the rows or the next more in the second.

    Which group goes where is a hash of its name. Selection picks the best epoch; calibration fits the temperature and
    the abstention threshold and is the drift reference, so that what was selected on does not flatter it.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    rows = sum(map(len, groups.values()))
    selection, calibration = list[Sample](), list[Sample]()
    for name in sorted(groups, key=lambda group: sha256_bytes(f"calibration {group}".encode())):
        part = calibration if len(calibration) < share * rows else selection
        part += groups[name]
    return selection, calibration


class Source:
    """Training and selection rows of a dataset, decoded."""

    def __init__(self, dataset: Dataset, config: PillsConfig, images: "Decoder | Pixels") -> None:
        place = {sample.id: row for row, sample in enumerate(dataset.samples)}
        number = {label: index for index, label in enumerate(dataset.labels)}
        selection, _ = parts(dataset.of("validation"), config.export.calibration_share)
        self._images = images
        self._targets = np.array([number[sample.label] for sample in dataset.samples], dtype=np.int64)
        self._training = np.array([place[sample.id] for sample in dataset.of("train")], dtype=np.int64)
        self._selection = np.array([place[sample.id] for sample in selection], dtype=np.int64)
        self._seed, self._augment = config.train.seed, config.augment
        self.rows = len(self._training)
        self.batch = config.train.batch_of(self.rows)

    def training(self, epoch: int, first: int, rank: int, world: int) -> Batches:
        """Augmented images float32 [batch / world, 3, s, s] and class numbers int64, from step `first` of the epoch on.

        Order and augmentation of a batch do not depend on `world`; rows beyond the last whole batch wait for another
        epoch's order. Two buffers take turns (fresh memory would cost a fifth of the time): a batch is valid until the
        next but one is asked for.
        """
        order = np.random.default_rng((self._seed, epoch)).permutation(self._training)
        share, side = self.batch // world, self._images.shape[1]
        buffers = np.empty((2, share, side, side, 3), np.float32)
        for step in range(first, self.rows // self.batch):
            changes = draw(self.batch, (self._seed, epoch, step))
            mine = slice(rank * share, (rank + 1) * share)
            rows = order[step * self.batch : (step + 1) * self.batch][mine]
            images = augmented(self._read(rows), changes[mine], self._augment, buffers[step % 2])
            yield torch.from_numpy(images), torch.from_numpy(self._targets[rows])

    def selection(self, rank: int, world: int) -> Batches:
        """Images float32 [n, 3, s, s] as the server would see them, and class numbers int64."""
        mine = self._selection[rank::world]
        for start in range(0, len(mine), EVALUATED):
            rows = mine[start : start + EVALUATED]
            yield torch.from_numpy(preprocess.normalise(self._read(rows))), torch.from_numpy(self._targets[rows])

    def _read(self, rows: NDArray[np.int64]) -> Pixels:
        """uint8 [n, s, s, 3]; a memory map is read in the order of the file."""
        order = np.argsort(rows)
        images = np.empty((len(rows), *self._images.shape[1:]), np.uint8)
        images[order] = self._images[rows[order]]
        return images


def images(samples: Iterable[Sample], config: PillsConfig, info: DatasetInfo, store: Store) -> Iterator[Pixels]:
    """The samples as the server would decode them: uint8 [n, s, s, 3], EVALUATED at a time, in order."""
    rows = list(samples)
    decoder = Decoder(rows, store, config.side(info))
    for start in range(0, len(rows), EVALUATED):
        yield decoder[np.arange(start, min(start + EVALUATED, len(rows)))]


def open_source(dataset: Dataset, config: PillsConfig, store: Store, cache: Path) -> Source:
    """The training data of `dataset`, decoded once into `cache`; opening it again is immediate."""
    return Source(dataset, config, decoded(dataset, config.side(dataset.info), store, cache))


def draw(rows: int, seed: tuple[int, ...]) -> Floats:
    """float64 [rows, 9], uniform in -1..1: shift right, shift down, scale, rotation, brightness, contrast, R, G, B."""
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 9))


def augmented(
    images: Pixels, changes: Floats, config: AugmentConfig, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """uint8 [n, s, s, 3] -> float32 [n, 3, s, s], normalised: each image moved and recoloured by its row of `changes`.

    `out`, float32 [n, s, s, 3], is what the result is a view of. Colours go through a table for each image, so it is
    the 256 values of the table that are normalised, not the pixels; the result is that of preprocess.normalise to the
    last bit.
    """
    side = images.shape[1]
    moved = np.empty_like(images[0])
    result = np.empty(images.shape, np.float32) if out is None else out
    matrices = _matrices(changes, config, side)
    tables = np.ascontiguousarray(preprocess.normalise(_tables(changes, config)).transpose(0, 2, 3, 1))
    with _fast_warps():
        for image, matrix, table, target in zip(images, matrices, tables, result, strict=True):
            cv2.warpAffine(image, matrix, (side, side), dst=moved, flags=WARP, borderMode=cv2.BORDER_REPLICATE)
            cv2.LUT(moved, table, dst=target)
    return result.transpose(0, 3, 1, 2)


@contextlib.contextmanager
def _fast_warps() -> Iterator[None]:
    """Let OpenCV use Intel's warps, which round otherwise than its own and take half as long (30 of 59 us at 96 px).

    For this thread and this block only: what `preprocess` does must not depend on it.
    """
    before = cv2.ipp.useIPP_NotExact()
    cv2.ipp.setUseIPP_NotExact(True)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP_NotExact(before)


def _matrices(changes: Floats, config: AugmentConfig, side: int) -> Floats:
    """float64 [n, 2, 3], from places in the result to places in the image; turned and scaled about the middle."""
    angle = np.radians(config.rotation) * changes[:, 3]
    scale = 1 / (1 + config.scale * changes[:, 2])
    cos, sin, middle = np.cos(angle) * scale, np.sin(angle) * scale, (side - 1) / 2
    right, down = (config.shift * side * changes[:, axis] + middle for axis in (0, 1))
    rows = [cos, sin, middle - cos * right - sin * down, -sin, cos, middle + sin * right - cos * down]
    matrices: Floats = np.stack(rows, axis=1).reshape(-1, 2, 3)
    return matrices


def _tables(changes: Floats, config: AugmentConfig) -> Pixels:
    """uint8 [n, 1, 256, 3]: what each value of each channel becomes; contrast is about mid-grey."""
    gain = 1 + config.contrast * changes[:, 5]
    lift = config.brightness * changes[:, 4, None] + config.colour * changes[:, 6:9]
    values = np.arange(256) - 127.5
    table = gain[:, None, None] * values[None, :, None] + 127.5 + 255 * lift[:, None, :]
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[:, None]
