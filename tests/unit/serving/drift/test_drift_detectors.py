"""Detectors on windows that are quiet, moved and broken."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from core.errors import UserError
from core.verdict import Outcome
from serving.drift import detector, ks, mix, mmd
from serving.drift.detector import Settings
from serving.drift.outliers import Outliers
from serving.drift.sample import Sample, Values

OURS = ("ks", "mmd", "classifier", "mix")


def sample(values: Values, predictions: object = None, release: str = "r1") -> Sample:
    answers = np.arange(len(values)) % 4 if predictions is None else np.asarray(predictions)
    names = tuple(f"column_{place}" for place in range(values.shape[1]))
    return Sample(release, names, values, answers.astype(np.int64), ("a", "b", "c", "d"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def reference(rng: np.random.Generator) -> Sample:
    return sample(rng.normal(size=(400, 6)))


@pytest.mark.parametrize("method", OURS)
def test_a_quiet_window_passes(method: str, reference: Sample, rng: np.random.Generator) -> None:
    found = detector.fit(Settings(method=method), reference).score(sample(rng.normal(size=(300, 6))))
    assert found.verdict.outcome == Outcome.PASS
    assert found.effect is not None and found.effect < 0.15


@pytest.mark.parametrize("method", ("ks", "mmd", "classifier"))
def test_a_moved_column_fails_and_is_named(method: str, reference: Sample, rng: np.random.Generator) -> None:
    moved = rng.normal(size=(300, 6))
    moved[:, 2] += 1.5
    found = detector.fit(Settings(method=method), reference).score(sample(moved))
    assert found.verdict.outcome == Outcome.FAIL
    assert next(iter(found.attribution)) == "column_2"


def test_a_changed_mix_of_answers_names_the_class(reference: Sample, rng: np.random.Generator) -> None:
    answers = rng.choice(4, size=300, p=[0.1, 0.1, 0.7, 0.1])
    found = detector.fit(Settings(method="mix"), reference).score(sample(rng.normal(size=(300, 6)), answers))
    assert found.verdict.outcome == Outcome.FAIL
    assert next(iter(found.attribution)) == "c"


def test_quiet_windows_fail_no_more_often_than_alpha_says(rng: np.random.Generator) -> None:
    """400 fresh pairs at alpha = 0.05: more than 35 rejections have a chance of 0.1 % or less at a true 5 %."""
    rejected = dict.fromkeys(("ks", "mix"), 0)
    for _ in range(400):
        old, new = sample(rng.normal(size=(150, 5)), rng.integers(0, 4, 150)), rng.normal(size=(120, 5))
        for method in rejected:
            fitted = detector.fit(Settings(method=method, alpha=0.05), old)
            rejected[method] += fitted.score(sample(new, rng.integers(0, 4, 120))).verdict.outcome == Outcome.FAIL
    assert max(rejected.values()) <= 35


@pytest.mark.parametrize("decimals", (12, 0))
def test_ks_equals_scipy_with_and_without_ties(decimals: int, rng: np.random.Generator) -> None:
    old, new = rng.normal(size=(300, 8)).round(decimals), rng.normal(0.2, 1.2, size=(170, 8)).round(decimals)
    found = ks.Ks.fit(old, np.zeros(300, np.int64), 1).distances(new)
    expected = [stats.ks_2samp(old[:, place], new[:, place], method="asymp") for place in range(8)]
    np.testing.assert_allclose(found, [one.statistic for one in expected], atol=1e-12)
    np.testing.assert_allclose([ks.p_of(d, 300, 170) for d in found], [one.pvalue for one in expected], rtol=1e-9)


def test_ks_of_columns_that_crowd_into_one_cell(rng: np.random.Generator) -> None:
    """Far outliers, a constant, few values, and a window beyond the reference on both sides."""
    old, new = rng.normal(size=(300, 6)), rng.normal(size=(170, 6))
    old[0, 0], old[:, 1], new[:90, 1] = 1e9, 0.25, 0.25
    old[:, 2], new[:, 2] = rng.integers(0, 3, 300), rng.integers(0, 4, 170)
    new[:, 3], new[:, 4], new[:, 5] = 7, -7, old[:170, 5]
    found = ks.Ks.fit(old, np.zeros(300, np.int64), 1).distances(new)
    expected = [stats.ks_2samp(old[:, place], new[:, place]).statistic for place in range(6)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_mmd_of_permutations_equals_its_definition(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(90, 3)).astype(np.float32)
    kernel = mmd._kernel(mmd._squares(rows, rows), 1.5)
    found, _ = mmd._statistics(kernel[:50, :50], kernel[:50, 50:], kernel[50:, 50:], 9)
    clean = kernel.astype(float) - np.diag(np.diag(kernel))
    old, new, across = clean[:50, :50], clean[50:, 50:], clean[:50, 50:]
    assert found == pytest.approx(old.sum() / (50 * 49) + new.sum() / (40 * 39) - 2 * across.mean(), abs=1e-6)


def test_the_score_is_monotone_and_between_0_and_1() -> None:
    scores = [ks.score(distance, 50, 1000, 200) for distance in np.linspace(0, 1, 101)]
    assert scores[0] == 0 and scores[-1] == 1
    assert all(first <= second for first, second in itertools.pairwise(scores))


def test_the_class_mix_is_recovered_from_wrong_answers(rng: np.random.Generator) -> None:
    confusion = np.array([[80.0, 10, 5], [10, 70, 5], [10, 20, 90]])
    truth = np.array([0.6, 0.1, 0.3])
    np.testing.assert_allclose(mix.estimate(confusion, 1000 * (confusion / 100) @ truth), truth, atol=0.02)
    with pytest.raises(UserError, match="class 1 has 0 labelled samples"):
        mix.estimate(np.diag([5.0, 0, 5]), np.ones(3))


def test_outliers_have_small_p_values_and_ordinary_requests_uniform_ones(rng: np.random.Generator) -> None:
    fitted = Outliers.fit(rng.normal(size=(600, 5)))
    ordinary = fitted.p_values(rng.normal(size=(2000, 5)))
    assert (ordinary <= 0.1).mean() < 0.16
    assert fitted.p_values(np.array([[9.0] * 5, [np.nan] * 5])).max() < 0.01


@pytest.mark.parametrize("method", OURS)
def test_few_events_are_inconclusive(method: str, reference: Sample) -> None:
    fitted = detector.fit(Settings(method=method), reference)
    for events in (0, 1, 99):
        assert fitted.score(sample(np.full((events, 6), 9.0))).verdict.outcome == Outcome.INCONCLUSIVE


@pytest.mark.parametrize("method", OURS)
def test_broken_rows_are_left_out_and_missing_columns_named(
    method: str, reference: Sample, rng: np.random.Generator
) -> None:
    values = rng.normal(size=(300, 6))
    values[:, 4] = np.nan
    values[:10, 1] = np.inf
    found = detector.fit(Settings(method=method), reference).score(sample(values))
    assert (found.events, found.missing) == (290, ("column_4",))
    assert found.verdict.outcome == Outcome.PASS
    nothing = detector.fit(Settings(method=method), reference).score(sample(np.full((300, 6), np.nan)))
    assert nothing.verdict.outcome == Outcome.INCONCLUSIVE


@pytest.mark.parametrize("method", ("ks", "mmd", "classifier"))
def test_a_constant_column_is_quiet_until_it_moves(method: str, rng: np.random.Generator) -> None:
    old, new = rng.normal(size=(300, 3)), rng.normal(size=(300, 3))
    old[:, 0] = new[:, 0] = 5.0
    fitted = detector.fit(Settings(method=method), sample(old))
    assert fitted.score(sample(new)).verdict.outcome == Outcome.PASS
    new[:, 0] = 9.0
    assert fitted.score(sample(new)).verdict.outcome == Outcome.FAIL


def test_another_release_is_refused(reference: Sample) -> None:
    with pytest.raises(UserError, match="'r2'"):
        detector.fit(Settings(), reference).score(reference._replace(release="r2"))


def test_an_unknown_method_and_a_broken_reference_are_refused(reference: Sample) -> None:
    with pytest.raises(UserError, match="did you mean 'mmd'"):
        detector.fit(Settings(method="mmdd"), reference)
    with pytest.raises(UserError, match="finite"):
        detector.fit(Settings(), reference._replace(values=reference.values * np.nan))


@pytest.mark.parametrize("method", ("ks", "mmd", "classifier"))
@pytest.mark.parametrize("change", ("none", "noisy", "rotated", "inverted"))
def test_scans_of_digits_against_changed_copies(method: str, change: str) -> None:
    images = np.random.default_rng(3).permutation(load_digits().images)
    old, new = images[:900], images[900:]
    noise = np.random.default_rng(4).normal(0, 4, new.shape)
    changed = {"none": new, "noisy": new + noise, "rotated": np.rot90(new, axes=(1, 2)), "inverted": 16 - new}[change]
    fitted = detector.fit(Settings(method=method), sample(old.reshape(900, -1)))
    outcome = fitted.score(sample(changed.reshape(len(new), -1))).verdict.outcome
    assert outcome == (Outcome.PASS if change == "none" else Outcome.FAIL)
