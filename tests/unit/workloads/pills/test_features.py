"""Image statistics (F02) and the hash of near-duplicates."""

import io
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workloads.pills.camera import camera_session, corrupt
from workloads.pills.features import FEATURE_NAMES, dhash64, histograms, shape_ratio, statistics, texture
from workloads.pills.preprocess import decode_full
from workloads.pills.render import catalogue, draw


def pill(seed: int = 0) -> np.ndarray:
    return draw(catalogue(9, seed=0)[seed % 9], "front", camera_session(seed), np.random.default_rng(seed))


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_every_image_has_finite_statistics_in_the_order_of_their_names(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    vector = statistics(image)
    assert vector.dtype == np.float32
    assert vector.shape == (len(FEATURE_NAMES),)
    assert np.isfinite(vector).all()
    named = dict(zip(FEATURE_NAMES, vector.tolist(), strict=True))
    assert 0 <= named["shape_ratio"] <= 1
    assert sum(named[f"red_{step}"] for step in range(8)) == pytest.approx(1, abs=1e-5)
    assert 0 <= dhash64(image) < 2**64


@pytest.mark.parametrize(("axes", "expected"), [((30, 30), 1.0), ((40, 20), 0.5), ((40, 10), 0.25)])
@pytest.mark.parametrize("angle", [0, 30, 90])
def test_the_shape_ratio_is_that_of_the_ellipse(axes: tuple[int, int], expected: float, angle: int) -> None:
    grey = np.full((96, 96), 200, dtype=np.uint8)
    cv2.ellipse(grey, (48, 48), axes, angle, 0, 360, (60,), -1)
    assert shape_ratio(grey) == pytest.approx(expected, abs=0.03)


def test_an_empty_scene_is_round() -> None:
    assert shape_ratio(np.full((10, 10), 7, dtype=np.uint8)) == 1.0


def test_histograms_count_each_channel() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:2, :, 0] = 255
    counted = histograms(image).reshape(3, 8)
    assert counted[0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0.5]
    assert counted[1:, 0].tolist() == [1, 1]


def test_texture_of_known_patterns() -> None:
    flat = np.zeros((16, 16), dtype=np.uint8)
    board = (np.indices((16, 16)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert texture(flat) == (0.0, 0.0)
    assert texture(board) == pytest.approx((15.0**2, 1.0))  # neighbours differ by 15 of 16 levels, in two equal ways


def test_a_copy_has_nearly_the_hash_and_another_image_has_not() -> None:
    image = pill(4)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    copies = [decode_full(buffer.getvalue()), cv2.resize(image, (64, 64)), corrupt(image, "dark", 1)]
    assert max(distance(dhash64(image), dhash64(copy)) for copy in copies) <= 4
    others = [dhash64(pill(seed)) for seed in range(5, 25)]
    assert min(distance(dhash64(image), other) for other in others) > 4


def test_a_brighter_left_cell_sets_its_bit() -> None:
    falling = np.repeat(np.linspace(255, 0, 9).astype(np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    assert dhash64(falling) == 2**64 - 1
    assert dhash64(np.ascontiguousarray(falling[:, ::-1])) == 0


def test_a_thousand_images_a_second_and_core() -> None:
    images = [pill(seed) for seed in range(20)]
    rates = []
    for _ in range(3):
        start = time.thread_time()
        for image in images * 5:
            statistics(image)
            dhash64(image)
        rates.append(100 / (time.thread_time() - start))
    assert max(rates) >= 1000, rates
