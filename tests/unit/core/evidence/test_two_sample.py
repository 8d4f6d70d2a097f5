"""The two e-processes over many looks: error rates, power, late harm, confounding."""

import numpy as np
import pytest

from core.evidence import bernoulli, mixture, two_sample
from core.evidence.two_sample import Evidence, Look

MARGIN = 0.02


def stream(rates_s, rates_c, sizes_s, sizes_c, runs: int, seed: int, margin: float = MARGIN) -> list[Evidence]:
    """Evidence after each look of `runs` rollouts."""
    rng = np.random.default_rng(seed)
    evidence, seen, path = two_sample.start((runs,)), np.zeros((2, runs)), []
    for stable, candidate, n_s, n_c in zip(rates_s, rates_c, sizes_s, sizes_c, strict=True):
        k_s, k_c = rng.binomial(n_s, stable, runs), rng.binomial(n_c, candidate, runs)
        look = Look(*(np.full(runs, part, float) for part in (n_s, k_s, n_c, k_c)))
        evidence = two_sample.update(evidence, np.full(runs, margin), *seen, look)
        seen = seen + np.stack([look.n_s, look.k_s])
        path.append(evidence)
    return path


def crossings(path: list[Evidence], part: str, alpha: float) -> float:
    reached = [mixture.mean(getattr(evidence, part)) >= np.log(1 / alpha) for evidence in path]
    return float(np.any(reached, axis=0).mean())


@pytest.mark.parametrize("base", [0.01, 0.3])
def test_mean_of_the_evidence_at_the_margin_is_at_most_1(base: float) -> None:
    """Twelve looks of a few requests, so that the mean can be estimated; its interval must reach below 1."""
    path = stream([base] * 12, [base + MARGIN] * 12, [12] * 12, [6] * 12, 20_000, seed=1)
    for part in (path[-1].harm, path[-1].fit):
        values = np.exp(mixture.mean(part))
        assert values.mean() - 3 * values.std() / np.sqrt(len(values)) <= 1


@pytest.mark.parametrize("part", ["harm", "fit"])
def test_errors_at_the_margin_stay_below_alpha_under_cycles_and_changing_shares(part: str) -> None:
    looks = np.arange(300)
    base = 0.05 * (1 + 0.8 * np.sin(looks / 20))
    n_c = np.where(looks % 60 < 30, 5, 60)
    path = stream(base, base + MARGIN, 120 - n_c, n_c, 1500, seed=2)
    alpha = 0.05
    assert crossings(path, part, alpha) <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / 1500)


def test_shares_that_rise_with_the_rates_do_not_look_like_harm() -> None:
    """Simpson: over all looks together the candidate is far above stable, in each look it is equal."""
    looks = np.arange(200)
    base, n_c = np.where(looks < 100, 0.02, 0.20), np.where(looks < 100, 10, 90)
    path = stream(base, base, 100 - n_c, n_c, 200, seed=3)
    assert crossings(path, "harm", 0.01) == 0
    assert crossings(path, "fit", 0.05) > 0.5


def test_a_harmful_candidate_is_found_and_never_promoted() -> None:
    path = stream([0.02] * 100, [0.12] * 100, [90] * 100, [10] * 100, 200, seed=4)
    assert crossings(path, "harm", 0.01) == 1
    assert crossings(path, "fit", 0.05) <= 0.05


def test_an_equal_candidate_is_promoted() -> None:
    path = stream([0.02] * 400, [0.02] * 400, [150] * 400, [50] * 400, 200, seed=5)
    assert crossings(path, "fit", 0.05) == 1


def test_expected_requests_stay_within_1_6_of_the_information_bound() -> None:
    path = stream([0.05] * 400, [0.12] * 400, [90] * 400, [10] * 400, 300, seed=6)
    limit = np.log(600)
    reached = np.array([mixture.mean(evidence.harm) >= limit for evidence in path])
    assert reached[-1].all()
    needed = 100 * (1 + reached.argmax(axis=0).mean())
    bound = limit / float(bernoulli.kl_inf(*(np.array(v) for v in (0.05, 0.12, MARGIN, 0.1))))
    assert 1 < needed / bound < 1.6


def test_late_harm_does_not_drown_in_good_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 50,000 good requests 60 looks of harm suffice; without late stakes, as one product, they do not."""
    sizes = ([90] * 560, [10] * 560)
    rates_c = [0.05] * 500 + [0.20] * 60
    path = stream([0.05] * 560, rates_c, *sizes, 50, seed=7)
    assert crossings(path[:500], "harm", 0.01) == 0
    assert crossings(path, "harm", 0.01) == 1
    monkeypatch.setattr(mixture, "stake", lambda spent, _: np.full_like(spent, mixture.NOTHING))
    assert crossings(stream([0.05] * 560, rates_c, *sizes, 50, seed=7), "harm", 0.01) < 0.5


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (50, 3, 0, 0), (0, 0, 50, 50)])
def test_a_look_without_both_arms_changes_no_evidence(counts: tuple[int, ...]) -> None:
    before = stream([0.1] * 5, [0.3] * 5, [20] * 5, [20] * 5, 3, seed=8)[-1]
    look = Look(*(np.full(3, float(value)) for value in counts))
    after = two_sample.update(before, np.full(3, MARGIN), np.full(3, 100.0), np.full(3, 10.0), look)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one, other)


def test_without_an_estimate_there_is_no_bet() -> None:
    look = Look(*(np.array([float(value)]) for value in (100, 0, 100, 100)))
    after = two_sample.update(two_sample.start((1,)), np.array([MARGIN]), np.zeros(1), np.zeros(1), look)
    assert np.array_equal(after.harm, two_sample.start((1,)).harm)


@pytest.mark.parametrize("margin", [0.0001, 0.02, 0.5, 0.98])
@pytest.mark.parametrize("bad", [0.0, 1.0])
def test_all_good_and_all_bad_arms_keep_the_evidence_finite_at_any_margin(margin: float, bad: float) -> None:
    for candidate in (0.0, 1.0):
        last = stream([bad] * 30, [candidate] * 30, [500] * 30, [50] * 30, 2, seed=9, margin=margin)[-1]
        assert all(np.isfinite(part).all() for part in last)


def test_harms_reach_below_a_small_margin() -> None:
    assert two_sample.harms(np.array(0.001))[0] == pytest.approx(0.0005)
    assert two_sample.harms(np.array(0.05))[0] == pytest.approx(two_sample.SMALLEST)
    assert two_sample.harms(np.array(0.05))[-1] == pytest.approx(two_sample.LARGEST)
