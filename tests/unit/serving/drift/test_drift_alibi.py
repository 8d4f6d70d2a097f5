"""alibi-detect behind the same interface: the same statistics as ours, and detectors by name."""

import numpy as np
import pytest

from core.verdict import Outcome
from serving.drift import detector
from serving.drift.detector import Settings
from serving.drift.sample import Sample

pytestmark = pytest.mark.filterwarnings("ignore")  # of alibi-detect's own imports

RNG = np.random.default_rng(11)
OLD, QUIET = RNG.normal(size=(200, 8)), RNG.normal(size=(150, 8))
MOVED = RNG.normal(size=(150, 8)) + 2 * np.eye(8)[0]


def sample(values: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> Sample:
    return Sample("r1", tuple("abcdefgh"), values, np.zeros(len(values), np.int64), ("x",))


@pytest.mark.parametrize(("ours", "theirs"), [("ks", "alibi.KSDrift"), ("mmd", "alibi.MMDDrift")])
@pytest.mark.parametrize("window", (QUIET, MOVED))
def test_statistics_are_equal(
    ours: str, theirs: str, window: "np.ndarray[tuple[int, int], np.dtype[np.float64]]"
) -> None:
    first, second = (detector.fit(Settings(method=name), sample(OLD)).score(sample(window)) for name in (ours, theirs))
    assert first.statistic == pytest.approx(second.statistic, abs=1e-6)


@pytest.mark.parametrize("name", ("KSDrift", "MMDDrift", "LSDDDrift", "ClassifierDrift"))
def test_each_detector_sees_a_moved_column(name: str) -> None:
    fitted = detector.fit(Settings(method=f"alibi.{name}", alpha=0.05), sample(OLD))
    found = fitted.score(sample(MOVED))
    assert found.verdict.outcome == Outcome.FAIL
    assert next(iter(found.attribution)) == "a"
