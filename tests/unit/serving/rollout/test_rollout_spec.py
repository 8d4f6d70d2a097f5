"""What a rollout may be asked to do, and what the usual ones are."""

import pytest

from core.errors import UserError
from core.slo import Slo
from serving.rollout.metrics import Compared, of_slo
from serving.rollout.presets import STEPS, preset
from serving.rollout.spec import RolloutSpec, Step
from tests.unit.serving.rollout.world import CANDIDATE, CLASSES, STABLE, quick_spec

SLO = Slo.load("pills")
ERRORS = {"kind": "compared", "name": "errors", "margin": 0.01}


def _spec(**changes):
    fields = {
        "workload": "pills",
        "stable": STABLE,
        "candidate": CANDIDATE,
        "steps": [{"weight": 5}, {"weight": 100}],
        "metrics": [ERRORS],
    }
    return RolloutSpec.model_validate(fields | changes)


def _weights(*weights):
    return [{"weight": weight} for weight in weights]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": _weights(25, 10, 100)}, "weights fall from 25 to 10"),
        ({"steps": _weights(10, 10)}, "10 % repeats"),
        ({"steps": [{"shadow": 10}, {"shadow": 10}]}, "10 % repeats"),
        ({"steps": [{"weight": 5}, {"shadow": 10}]}, "weights fall from 5 to 0"),
        ({"steps": _weights(5, 120)}, "less than or equal to 100"),
        ({"steps": [{"weight": 5, "shadow": 5}]}, "one of the two"),
        ({"steps": [{}]}, "one of the two"),
        ({"steps": [{"weight": 5, "bake_seconds": 60, "deadline_seconds": 60}]}, "deadline of 60 s passes before"),
        ({"steps": [{"weight": 5, "min_requests": 0}]}, "greater than or equal to 1"),
        ({"candidate": STABLE}, "the same release"),
        ({"metrics": [ERRORS | {"margin": 0}]}, "a margin of 0 can never be shown"),
        ({"metrics": [ERRORS | {"name": "erors"}]}, "unknown metric 'erors'; did you mean 'errors'"),
        ({"metrics": [ERRORS, ERRORS]}, "metric 'errors' is there twice"),
        ({"metrics": [{"kind": "agreement", "limit": 0.2}]}, "no metric compares the arms"),
        ({"slices": [{"metric": "accuracy", "groups": ["a"], "margin": 0.1}]}, "slices of unknown metric 'accuracy'"),
        ({"slices": [{"metric": "errors", "groups": ["a", "a"], "margin": 0.1}]}, "group 'errors/a' is guarded twice"),
        ({"slices": [{"metric": "errors", "margin": 0.1}]}, "slices of 'errors' without a group"),
        ({"metrics": [ERRORS, {"kind": "confidence", "bounds": [0.9, 0.5], "margin": 0.1}]}, "0.9, 0.5 do not rise"),
        ({"steps": _weights(100)}, "no stable arm to be compared with"),
        ({"steps": [{"weight": 5, "min_labels": 3}]}, "min_labels without a labelled metric"),
        ({"alpha": 0}, "greater than 0"),
        ({"wieghts": 3}, "wieghts"),
    ],
)
def test_bad_spec_is_refused_with_its_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        _spec(**changes)


def test_message_of_a_file_names_key_and_value():
    text = _spec().model_dump_json().replace('"margin":0.01', '"margin":0.0')
    with pytest.raises(UserError, match=r"pills\.json: metrics\.0\.compared\.margin = 0\.0: .*can never be shown"):
        RolloutSpec.from_json(text, "pills.json")


@pytest.mark.parametrize("name", sorted(STEPS))
def test_presets_are_complete_and_survive_json(name):
    made = preset(name, workload="pills", stable=STABLE, candidate=CANDIDATE, slo=SLO, classes=CLASSES)
    again = RolloutSpec.model_validate_json(made.model_dump_json())
    assert again == made and again.digest == made.digest
    assert made.slow_ms == SLO.latency.p95_ms
    assert [check.kind for check in made.checks] == ["warm_up", "smoke"]


def test_presets_do_what_their_names_say():
    shares = {name: [(s.shadow, s.weight) for s in quick_spec(name).steps] for name in STEPS}
    assert shares["blue_green"][-1] == (0, 100) and [w for _, w in shares["blue_green"][:-1]] == [0]
    assert [w for _, w in shares["ten_fifty_hundred"]] == [10, 50, 100]
    assert quick_spec("ten_fifty_hundred").retire_stable and not quick_spec("canary").retire_stable
    assert not quick_spec("shadow_only").promotes and quick_spec("canary").promotes


def test_a_release_that_learned_a_changed_world_is_not_asked_to_answer_like_stable():
    usual, made = (quick_spec(name, classes=CLASSES) for name in ("canary", "retrained"))
    assert {metric.kind for metric in usual.metrics} > {"compared"}
    assert [metric.name for metric in made.metrics] == ["errors", "slow", "accuracy"]
    assert made.slices == usual.slices and made.slices


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'canary'"):
        preset("cannary", workload="pills", stable=STABLE, candidate=CANDIDATE, slo=SLO)


def test_limits_follow_from_the_ladder():
    metrics = {m.name: m for m in of_slo(SLO) if isinstance(m, Compared)}
    assert metrics["accuracy"].margin == pytest.approx(SLO.accuracy.gate - SLO.accuracy.retrain)
    assert metrics["accuracy"].limit == pytest.approx(1 - SLO.accuracy.alert)
    assert metrics["errors"].limit == pytest.approx(1 - SLO.availability + metrics["errors"].margin)


def test_without_labels_accuracy_guards_but_does_not_hold_the_promotion_up():
    made = preset("canary", workload="pills", stable=STABLE, candidate=CANDIDATE, slo=SLO, labels=False)
    assert {m.name: m.guard for m in made.metrics if isinstance(m, Compared)} == {
        "errors": False,
        "slow": False,
        "accuracy": True,
    }


def test_one_alpha_covers_everything_that_can_roll_back():
    asked = quick_spec(classes=CLASSES).questions
    shares = [asked.judge.alpha_of(metric) for metric in asked.judge.metrics]
    assert sum(shares) + asked.limits.alpha == pytest.approx(0.01)
    assert asked.judge.alpha_promote == 0.05


def test_copy_has_its_own_digest_and_is_validated():
    spec = _spec()
    assert spec.digest != spec.model_copy(update={"alpha": 0.02}).digest
    with pytest.raises(ValueError, match="weights fall"):
        spec.model_copy(update={"steps": (Step(weight=50), Step(weight=25))})
