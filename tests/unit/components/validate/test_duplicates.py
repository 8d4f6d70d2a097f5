import hashlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from components.validate import duplicates
from components.validate.duplicates import NEAR_BITS, connected, near_pairs, popcount
from workloads.pills.features import dhash64

words = st.integers(0, 2**64 - 1)


@st.composite
def families(draw: st.DrawFn) -> list[int]:
    """Hashes of which many are few bits apart."""
    seeds = draw(st.lists(words, min_size=1, max_size=4))
    found = []
    for _ in range(draw(st.integers(1, 25))):
        flips = draw(st.lists(st.integers(0, 63), max_size=NEAR_BITS + 2))
        found.append(draw(st.sampled_from(seeds)) ^ sum({1 << bit for bit in flips}))
    return found


def hexed(values: list[int]) -> list[str]:
    return [f"{value:016x}" for value in values]


@settings(max_examples=300, deadline=None)
@given(values=families(), scopes=st.integers(1, 3))
def test_the_pairs_of_distinct_hashes_are_exactly_those_that_differ_in_few_bits(values: list[int], scopes: int) -> None:
    values = list(dict.fromkeys(values))
    within = [str(index % scopes) for index in range(len(values))]
    near = {
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if within[i] == within[j] and (values[i] ^ values[j]).bit_count() <= NEAR_BITS
    }
    found = near_pairs(hexed(values), within).tolist()
    assert {(i, j) for i, j in found} == near and len(found) == len(near)


@settings(max_examples=200, deadline=None)
@given(families())
def test_with_equal_hashes_the_pairs_connect_what_all_pairs_would(values: list[int]) -> None:
    every = [
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if (values[i] ^ values[j]).bit_count() <= NEAR_BITS
    ]
    found = connected((i, j) for i, j in near_pairs(hexed(values)).tolist())
    assert {frozenset(group) for group in found} == {frozenset(group) for group in connected(every)}


@given(st.lists(words, min_size=1))
def test_popcount(values: list[int]) -> None:
    assert popcount(np.array(values, np.uint64)).tolist() == [value.bit_count() for value in values]


def test_nothing_is_near_nothing() -> None:
    assert near_pairs([]).shape == (0, 2) and near_pairs(["0" * 16]).shape == (0, 2)


def test_a_hundred_thousand_equal_images_give_a_chain_not_five_billion_pairs() -> None:
    pairs = near_pairs(["00ff00ff00ff00ff"] * 100_000)
    assert len(pairs) == 99_999 and len(connected((a, b) for a, b in pairs.tolist())) == 1


def test_a_hundred_thousand_images_are_compared_without_comparing_each_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counts comparisons, so that a slow machine cannot fail it: 5e9 pairs, of which few have a key in common."""
    compared = 0

    def counting(values: duplicates.Words) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        nonlocal compared
        compared += len(values)
        return popcount(values)

    monkeypatch.setattr(duplicates, "popcount", counting)
    hashes = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(100_000)]
    twins = [hashes[7], f"{int(hashes[8], 16) ^ 0b10101:016x}"]
    assert near_pairs(hashes + twins).tolist() == [[7, 100_000], [8, 100_001]]
    assert compared < 100_000


def parts() -> list[NDArray[np.uint8]]:
    """300 parts of two photographs, 120 to 300 pixels."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    found = []
    for number in range(300):
        whole, side = photographs[number % 2], int(rng.integers(120, 300))
        top, left = (int(rng.integers(length - side)) for length in whole.shape[:2])
        found.append(np.ascontiguousarray(whole[top : top + side, left : left + side]))
    return found


def tiles(side: int = 64) -> list[NDArray[np.uint8]]:
    """Parts of two photographs that do not overlap and show something (no sky)."""
    found = [
        np.ascontiguousarray(whole[top : top + side, left : left + side])
        for whole in load_sample_images().images
        for top in range(0, whole.shape[0] - side, side)
        for left in range(0, whole.shape[1] - side, side)
    ]
    return [tile for tile in found if tile.std() > 25]


COPIES: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "saved again": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1),
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.85).astype(np.uint8),
}


@pytest.mark.parametrize("name", COPIES)
def test_nine_in_ten_copies_of_a_photograph_are_near(name: str) -> None:
    originals = parts()
    count = len(originals)
    hashes = hexed([dhash64(image) for image in originals])
    copies = hexed([dhash64(COPIES[name](image)) for image in originals])
    pairs = {(i, j) for i, j in near_pairs(hashes + copies).tolist()}
    assert sum((number, number + count) in pairs for number in range(count)) >= 0.9 * count


def test_of_different_pictures_fewer_than_one_pair_in_a_thousand_is_near() -> None:
    hashes = hexed([dhash64(image) for image in tiles()])
    assert len(hashes) > 60 and len(near_pairs(hashes)) < len(hashes) * (len(hashes) - 1) / 2 / 1000


def test_pairs_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 50)
    alike = [1 << a | 1 << b for a in range(8) for b in range(a)]
    assert len(near_pairs(hexed(alike), bits=4)) == 50
