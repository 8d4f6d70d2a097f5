"""The synthetic pills: the same from the same seed, fast, honest about themselves, and not told apart by colour."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.errors import UserError
from workloads.pills import data, preprocess
from workloads.pills.camera import camera_session, corrupt
from workloads.pills.features import histograms
from workloads.pills.render import COLOURS, SHAPES, Rendering, catalogue, draw, photographs, write_folder


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    first, again, other = (
        files(write_folder(tmp_path / name, classes=3, images_per_class=4, sessions=2, seed=seed))
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    assert first == again
    assert not {first[name] for name in first} & {other[name] for name in other}


def test_no_image_is_drawn_twice() -> None:
    rendering = Rendering(classes=3, images_per_class=8, sessions=2, size=32, seed=0)
    assert len({image.tobytes() for _, image in photographs(rendering)}) == 24


@pytest.mark.parametrize("classes", [1, 12, 1000])
def test_a_catalogue_holds_different_pills(classes: int) -> None:
    pills = catalogue(classes, seed=3)
    assert len({pill.label for pill in pills}) == len({pill.content_digest() for pill in pills}) == classes
    assert catalogue(classes, seed=3) == pills
    assert pills == catalogue(classes + 4, seed=3)[:classes]  # a larger catalogue keeps the smaller one


def test_families_share_colours_and_pairs_share_the_shape() -> None:
    pills = catalogue(40, seed=0)
    for start in range(0, 40, 4):
        family = pills[start : start + 4]
        assert len({pill.colours for pill in family}) == 1
        assert (family[0].shape, family[2].shape) == (family[1].shape, family[3].shape)
        assert len({pill.front for pill in family}) == len({pill.back for pill in family}) == 4
    assert {pill.shape for pill in pills} == set(SHAPES)
    assert {pill.colours[0] for pill in pills} == set(COLOURS)
    assert {len(pill.colours) for pill in pills} == {1, 2}


def test_the_folder_is_a_source_that_says_it_is_synthetic(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pills", classes=3, images_per_class=6, sessions=3, size=64, seed=1)
    source = data.read_source(root)
    assert source.synthetic
    assert (len(source.rows), len(source.labels), source.refused) == (18, 3, ())
    assert {row.side for row in source.rows} == {"front", "back"}
    assert len({row.group for row in source.rows}) == 9
    assert all(row.group and row.group.startswith(row.label) and row.taken_at for row in source.rows)
    for row in source.rows:
        assert preprocess.decode_full((root / row.path).read_bytes()).shape == (64, 64, 3)
    mark = json.loads((root / "dataset.json").read_text())
    assert (mark["synthetic"], mark["seed"], mark["renderer"]) == (True, 1, 1)


def test_a_finished_rendering_is_kept_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pills", classes=2, images_per_class=2, sessions=1)
    before = (root / "manifest.jsonl").stat().st_mtime_ns
    assert write_folder(root, classes=2, images_per_class=2, sessions=1) == root
    assert (root / "manifest.jsonl").stat().st_mtime_ns == before
    for taken in (root, tmp_path):
        with pytest.raises(UserError, match="holds something else"):
            write_folder(taken, classes=3, images_per_class=2, sessions=1)
    assert [path.name for path in tmp_path.iterdir()] == ["pills"]


def test_images_are_drawn_one_at_a_time() -> None:
    endless = photographs(Rendering(classes=2, images_per_class=10**9, sessions=10, size=32, seed=0))
    row, image = next(endless)
    assert image.shape == (32, 32, 3)
    assert row["side"] == "front"


def test_sessions_and_sides_show() -> None:
    pill = catalogue(1, seed=0)[0]

    def shot(side: str, session: int) -> np.ndarray:
        return draw(pill, side, camera_session(session), np.random.default_rng(0)).astype(int)

    assert np.array_equal(shot("front", 1), shot("front", 1))
    assert np.abs(shot("front", 1) - shot("back", 1)).max() > 60  # the imprint
    assert np.abs(shot("front", 1) - shot("front", 2)).mean() > 5  # the light


def test_five_hundred_images_a_second_and_core() -> None:
    pills = catalogue(4, seed=0)
    sessions = [camera_session(number) for number in range(4)]
    rng = np.random.default_rng(0)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rates = []
        for _ in range(3):
            start = time.thread_time()
            for number in range(100):
                draw(pills[number % 4], "front", sessions[number // 25], rng)
            rates.append(100 / (time.thread_time() - start))
    finally:
        cv2.setNumThreads(threads)
    assert max(rates) >= 500, rates


def test_a_linear_classifier_on_colour_histograms_stays_below_0_6() -> None:
    shots = list(photographs(Rendering(classes=12, images_per_class=72, sessions=12, size=64, seed=0)))
    table = np.stack([histograms(image) for _, image in shots])
    labels = np.array([row["label"] for row, _ in shots])
    held_out = np.array([int(row["group"].split("/")[1]) >= 8 for row, _ in shots])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    accuracy = model.fit(table[~held_out], labels[~held_out]).score(table[held_out], labels[held_out])
    assert 1 / 12 < accuracy < 0.6


@pytest.mark.parametrize("kind", ["blur", "colour", "noise", "dark"])
def test_a_camera_breaks_more_with_each_level_and_the_same_way_each_time(kind: str) -> None:
    image = draw(catalogue(1, seed=0)[0], "front", camera_session(1), np.random.default_rng(0))
    broken = [corrupt(image, kind, level) for level in range(1, 6)]
    damage = [np.abs(copy.astype(int) - image).mean() for copy in broken]
    assert damage == sorted(damage)
    assert damage[0] > 0.5
    assert np.array_equal(broken[2], corrupt(image, kind, 3))
    assert all(copy.shape == image.shape and copy.dtype == np.uint8 for copy in broken)
