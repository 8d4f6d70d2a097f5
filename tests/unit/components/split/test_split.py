import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.split.groups import join
from components.split.split import SHARES, assign, position, prove_no_leak, side, split
from core.dataset import SPLITS, Dataset, Sample, Split
from core.errors import DataError, PermanentError


def distinct(name: str) -> str:
    """A difference hash that is near no other's."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def flipped(dhash: str, *bits: int) -> str:
    return f"{int(dhash, 16) ^ sum(1 << bit for bit in bits):016x}"


def sample(name: str, label: str = "a", group: str = "", dhash: str = "", given: Split | None = None) -> Sample:
    return Sample(
        id=name,
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        label=label,
        group=group or name,
        split=given,
        width=8,
        height=8,
        dhash=dhash or distinct(name),
    )


def many(count: int, label: str = "a") -> list[Sample]:
    return [sample(f"{label}/{number}", label) for number in range(count)]


FAR = many(1500, "far")  # so many rows that a joined group of 13 stays below 1 %


def written(folder: Path, samples: list[Sample]) -> Path:
    info = {"workload": "pills", "image_size": 8, "synthetic": True, "source": "given", "quarantined": 3}
    Dataset.write(folder, samples, **info)
    return folder


def sides_of(samples: list[Sample]) -> dict[str, Split | None]:
    joined, _ = join(samples, position)
    return {row.id: row.split for row in assign(samples, joined)}


def test_the_side_of_a_group_is_what_it_always_was() -> None:
    """A changed salt, hash or order of the shares reshuffles the data of every user."""
    assert [side(f"pill-{number}") for number in range(12)] == (
        ["test", "test", "train", "train", "test", "train", "test", "test", "final_eval", "train", "train", "train"]
    )


def test_shares_are_met() -> None:
    counts = Counter(side(f"group-{number}") for number in range(20_000))
    for name, share in SHARES.items():
        assert counts[name] / 20_000 == pytest.approx(share, abs=0.01)  # 3 standard deviations are 0.0097 at 0.7


def test_split_writes_the_dataset_and_says_what_went_where(tmp_path: Path) -> None:
    rows = many(150, "a") + many(150, "b")
    result = split(written(tmp_path / "in", rows), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "split.json").read_text())
    assert sum(report["rows"].values()) == 300 and report["rows"] == {
        name: sum(1 for _ in result.of(name)) for name in SPLITS
    }
    assert report["classes"]["b"]["train"] == sum(row.label == "b" for row in result.of("train"))
    assert report["given_rows"] == 0 and report["joined"] == [] and report["apart"] == []
    assert result.info.quarantined == 3 and result.info.source == "given" and result.info.synthetic
    assert Dataset.read(tmp_path / "out").info.digest == result.info.digest


def test_splitting_twice_gives_the_same_dataset(tmp_path: Path) -> None:
    folder = written(tmp_path / "in", many(200))
    assert split(folder, tmp_path / "out").info.digest == split(folder, tmp_path / "out").info.digest


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.integers(0, 300), min_size=1, max_size=120),
    extra=st.lists(st.integers(0, 600), max_size=120),
)
def test_growth_moves_no_sample_when_nothing_is_alike(groups: list[int], extra: list[int]) -> None:
    old = [sample(f"{number}", group=f"g{group}") for number, group in enumerate(groups)]
    new = [sample(f"new-{number}", label="b", group=f"g{group}") for number, group in enumerate(extra)]
    before, after = sides_of(old), sides_of(old + new)
    assert all(after[name] == before[name] for name in before)
    prove_no_leak(assign(old + new, join(old + new, position)[0]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=12))
def test_growth_by_near_duplicates_moves_samples_towards_train_only(alike: list[int]) -> None:
    old = [sample(f"{number}", dhash=distinct(f"picture-{number}")) for number in range(40)] + FAR
    new = [
        sample(f"new-{number}", dhash=flipped(distinct(f"picture-{like}"), number % 64))
        for number, like in enumerate(alike)
    ]
    before, after = sides_of(old), sides_of(old + new)
    order = {name: index for index, name in enumerate(SPLITS)}
    assert all(order[after[name]] <= order[before[name]] for name in before if after[name] and before[name])


def test_near_duplicates_of_one_label_share_a_side_and_a_group() -> None:
    groups = [f"session-{number}" for number in range(40)]
    lone = next(g for g in groups if side(g) == "test")
    pair = next(g for g in groups if side(g) == "train")
    rows = [sample("one", group=lone, dhash=distinct("x")), sample("two", group=pair, dhash=flipped(distinct("x"), 5))]
    rows += many(300)
    assert sides_of(rows)["one"] == sides_of(rows)["two"] == "train"
    assert assign(rows, join(rows, position)[0])[0].group == pair


def test_near_duplicates_under_two_labels_stay_apart() -> None:
    rows = [sample("one", "a", dhash=distinct("x")), sample("two", "b", dhash=distinct("x")), *many(300)]
    assert join(rows, position) == ([], [])


def test_a_joined_group_above_one_percent_is_reported_not_joined() -> None:
    burst = [sample(f"burst-{number}", dhash=flipped(distinct("x"), number)) for number in range(11)]
    joined, apart = join(burst + many(989), position)
    assert joined == [] and [(group.rows, group.reason) for group in apart] == [(11, "1.1% of the rows, more than 1%")]
    joined, apart = join(burst[:10] + many(990), position)
    assert apart == [] and [group.rows for group in joined] == [10]


def test_a_given_side_is_kept_by_the_whole_group() -> None:
    rows = [sample("one", group="g", given="final_eval"), sample("two", group="g"), *many(20)]
    assert sides_of(rows)["one"] == sides_of(rows)["two"] == "final_eval"


def test_a_given_side_is_kept_by_what_is_joined_to_it() -> None:
    rows = [sample("one", dhash=distinct("x"), given="test"), sample("two", dhash=distinct("x")), *many(300)]
    assert sides_of(rows)["two"] == "test"


def test_near_duplicates_given_different_sides_are_reported_and_keep_them() -> None:
    rows = [
        sample("one", dhash=distinct("x"), given="test"),
        sample("two", dhash=distinct("x"), given="train"),
        *many(300),
    ]
    joined, apart = join(rows, position)
    assert joined == [] and apart[0].reason == "given different sides: test, train"
    assert sides_of(rows)["one"] == "test" and sides_of(rows)["two"] == "train"


def test_a_group_given_two_sides_is_refused_by_name(tmp_path: Path) -> None:
    rows = [sample("one", group="pill-7", given="train"), sample("two", group="pill-7", given="test"), *many(50)]
    with pytest.raises(DataError, match="'pill-7'") as caught:
        split(written(tmp_path / "in", rows), tmp_path / "out")
    assert caught.value.rows == [("pill-7", "1 rows in train, 1 rows in test")]
    assert not (tmp_path / "out").exists()


def test_a_class_that_cannot_be_trained_is_refused_by_name(tmp_path: Path) -> None:
    judged = [name for name in (f"g{number}" for number in range(100)) if side(name) != "train"]
    rows = many(200) + [sample(f"x{number}", "rare", group=judged[number]) for number in range(5)]
    with pytest.raises(DataError, match="'rare'") as caught:
        split(written(tmp_path / "in", rows), tmp_path / "out")
    assert caught.value.rows == [("rare", "0 of 5 rows in train")]


def test_an_empty_side_is_refused(tmp_path: Path) -> None:
    rows = [sample(f"{number}", given="train" if number else "test") for number in range(30)]
    with pytest.raises(DataError, match="no row is in validation and final_eval"):
        split(written(tmp_path / "in", rows), tmp_path / "out")


def test_classes_without_a_row_to_judge_are_reported(tmp_path: Path) -> None:
    trained = [name for name in (f"g{number}" for number in range(100)) if side(name) == "train"]
    rows = many(200) + [sample(f"x{number}", "rare", group=trained[number]) for number in range(5)]
    split(written(tmp_path / "in", rows), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "split.json").read_text())
    assert report["missing"] == {"validation": ["rare"], "test": ["rare"], "final_eval": ["rare"]}


def test_a_leak_is_proven() -> None:
    with pytest.raises(PermanentError, match="'g' sits on two sides, train and test"):
        prove_no_leak([sample("one", group="g", given="train"), sample("two", group="g", given="test")])
    with pytest.raises(PermanentError, match="'one' has no side"):
        prove_no_leak([sample("one")])


def test_ten_thousand_classes(tmp_path: Path) -> None:
    rows = [sample(f"{label}/{number}", f"class-{label}") for label in range(10_000) for number in range(3)]
    joined, apart = join(rows, position)
    assert joined == [] and apart == []
    counts = Counter(row.split for row in assign(rows, joined))
    assert counts["train"] / len(rows) == pytest.approx(0.7, abs=0.005)
