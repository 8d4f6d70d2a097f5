import os
import time

import cv2
import numpy as np
import pytest
import torch

from core.errors import DataError
from core.objects import Store
from tests.pictures import write_dataset
from workloads.pills import loader, preprocess
from workloads.pills.recipes import AugmentConfig, resnet18

STILL = AugmentConfig(shift=0, scale=0, rotation=0, brightness=0, contrast=0, colour=0)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "objects"))


@pytest.fixture
def dataset(tmp_path, store):
    return write_dataset(tmp_path / "data", store)


@pytest.fixture
def opened(dataset, store, tmp_path):
    """A function that opens the dataset with a configuration's changes."""

    def opened(**changes):
        return loader.open_source(dataset, resnet18().model_copy(update=changes), store, tmp_path / "cache")

    return opened


def kept(batches):
    """Copies of batches, which share their memory."""
    return [(images.clone(), targets) for images, targets in batches]


def test_what_is_not_augmented_is_what_the_server_would_see(dataset, store, opened):
    selection, _ = loader.parts(dataset.of("validation"), 0.5)
    found = torch.cat([images for images, _ in opened().selection(rank=0, world=1)])
    served = [preprocess.normalise(preprocess.decode(store.blob(s.sha256), 32)[None]) for s in selection]
    assert np.array_equal(found.numpy(), np.concatenate(served))


def test_training_without_augmentation_reads_the_same_tensors_as_the_server(dataset, store, opened):
    served = {
        preprocess.normalise(preprocess.decode(store.blob(s.sha256), 32)[None]).tobytes(): dataset.labels.index(s.label)
        for s in dataset.of("train")
    }
    for images, targets in opened(augment=STILL).training(epoch=0, first=0, rank=0, world=1):
        assert [served[image[None].numpy().tobytes()] for image in images] == targets.tolist()


def test_a_later_start_gives_the_rest_of_the_same_epoch(opened):
    whole = kept(opened().training(epoch=3, first=0, rank=0, world=1))
    rest = kept(opened().training(epoch=3, first=2, rank=0, world=1))
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[2:], rest, strict=True))


def test_epochs_and_seeds_differ(opened):
    first = next(iter(opened().training(epoch=0, first=0, rank=0, world=1)))[0]
    other = resnet18().train.model_copy(update={"seed": 1})
    assert not torch.equal(first, next(iter(opened().training(epoch=1, first=0, rank=0, world=1)))[0])
    assert not torch.equal(first, next(iter(opened(train=other).training(epoch=0, first=0, rank=0, world=1)))[0])


def test_two_processes_share_the_batches_of_one(opened):
    alone, shares = opened(), [opened(), opened()]
    together = zip(*(source.training(0, 0, rank, 2) for rank, source in enumerate(shares)), strict=True)
    for (images, targets), parts in zip(alone.training(0, 0, 0, 1), together, strict=True):
        even = 2 * (alone.batch // 2)
        assert torch.equal(images[:even], torch.cat([part[0] for part in parts]))
        assert torch.equal(targets[:even], torch.cat([part[1] for part in parts]))


def test_two_processes_see_each_selection_row_once(opened):
    rows = sum(len(targets) for rank in (0, 1) for _, targets in opened().selection(rank, 2))
    assert rows == sum(len(targets) for _, targets in opened().selection(0, 1))


def test_the_calibration_part_is_whole_groups_that_select_nothing(dataset):
    selection, calibration = loader.parts(dataset.of("validation"), 0.5)
    assert not {s.group for s in selection} & {s.group for s in calibration}
    assert sorted(s.id for s in selection + calibration) == [s.id for s in dataset.of("validation")]
    assert len(calibration) == len(selection)
    again = loader.parts(reversed(list(dataset.of("validation"))), 0.5)
    assert {s.id for s in again[1]} == {s.id for s in calibration}


def pixels(normalised):
    """float32 [n, 3, s, s] back to uint8 [n, s, s, 3]."""
    std, mean = np.array(preprocess.STD), np.array(preprocess.MEAN)
    return np.rint((normalised.transpose(0, 2, 3, 1) * std + mean) * 255).astype(np.uint8)


def changed(column, **config):
    """A function that augments with one column of `changes` at its end."""

    def changed(images):
        changes = np.zeros((len(images), 9))
        changes[:, column] = 1
        return pixels(loader.augmented(images, changes, AugmentConfig(**config)))

    return changed


def test_no_change_leaves_an_image_as_the_server_would_normalise_it():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    found = loader.augmented(images, np.zeros((4, 9)), AugmentConfig())
    assert np.array_equal(found, preprocess.normalise(images))


@pytest.mark.parametrize(("column", "place"), [(0, [20, 24]), (1, [24, 20])])
def test_a_shift_moves_by_its_share_of_the_side(column, place):
    image = np.zeros((1, 40, 40, 3), np.uint8)
    image[0, 20, 20] = 255
    moved = changed(column, shift=0.1)(image)[0, ..., 0]
    assert np.argwhere(moved == 255).tolist() == [place]


def test_scaling_makes_the_middle_larger():
    image = np.zeros((1, 33, 33, 3), np.uint8)
    image[0, 10:23, 10:23] = 255
    grown = changed(2, scale=0.5)(image)[0, ..., 0]
    assert grown[16, 16] == 255
    assert (grown > 127).sum() == pytest.approx(13 * 13 * 1.5**2, rel=0.1)


def test_turning_keeps_the_middle_and_turns_the_rest():
    image = np.zeros((1, 33, 33, 3), np.uint8)
    image[0, 16, 16] = image[0, 16, 28] = 255
    turned = changed(3, rotation=90)(image)[0, ..., 0]
    assert turned[16, 16] == 255
    assert sorted(np.argwhere(turned == 255).tolist()) in ([[4, 16], [16, 16]], [[16, 16], [28, 16]])


def test_brightness_saturates_and_never_wraps():
    assert changed(4)(np.full((1, 8, 8, 3), 250, np.uint8)).min() == 255
    assert changed(6, colour=0.5)(np.full((1, 8, 8, 3), 200, np.uint8))[0, 0, 0].tolist() == [255, 200, 200]


def test_fast_warps_are_off_again_for_what_must_be_exact():
    loader.augmented(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 9)), AugmentConfig())
    assert not cv2.ipp.useIPP_NotExact()


def test_images_are_decoded_once(dataset, store, tmp_path):
    first = loader.decoded(dataset, 32, store, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.npy")
    written = file.stat().st_ino
    assert isinstance(first, np.memmap)
    assert np.array_equal(loader.decoded(dataset, 32, store, tmp_path / "cache"), first)
    assert file.stat().st_ino == written


def test_another_size_is_another_cache(dataset, store, tmp_path):
    for side in (32, 48):
        assert loader.decoded(dataset, side, store, tmp_path / "cache").shape[1] == side
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_a_full_cache_drops_what_was_read_longest_ago(dataset, store, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    loader.decoded(dataset, 32, store, cache)
    loader.decoded(dataset, 16, store, cache)
    old, new = sorted(cache.glob("*.npy"), key=lambda path: -path.stat().st_size)
    os.utime(old, (0, 0))
    os.utime(new, (time.time(), time.time()))
    monkeypatch.setattr(loader, "CACHE_BYTES", new.stat().st_size * 3)
    loader.decoded(dataset, 17, store, cache)
    assert not old.exists()
    assert new.exists()


def test_a_dataset_beyond_the_cache_is_decoded_as_it_is_read(dataset, store, tmp_path, monkeypatch):
    cached = np.array(loader.decoded(dataset, 32, store, tmp_path / "cache"))
    monkeypatch.setattr(loader, "CACHE_BYTES", 1000)
    direct = loader.decoded(dataset, 32, store, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert np.array_equal(direct[np.array([5, 1])], cached[[5, 1]])


def test_an_interrupted_decoding_leaves_no_cache(dataset, store, tmp_path, monkeypatch):
    digest = dataset.samples[-1].sha256
    blob = tmp_path / "objects" / "blobs" / digest[:2] / digest
    blob.write_bytes(b"")
    monkeypatch.setattr(store, "blob", lambda name: b"" if name == digest else Store.blob(store, name))
    with pytest.raises(DataError, match=r"dune|cobalt") as error:
        loader.decoded(dataset, 32, store, tmp_path / "cache")
    assert error.value.rows == [(dataset.samples[-1].id, "the file has no bytes")]
    assert list((tmp_path / "cache").iterdir()) == []
