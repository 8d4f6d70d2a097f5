"""Configuration, files, datasets, verdicts, homes, the audit log."""

import importlib
import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import audit
from core.config import Config, canonical_json
from core.dataset import Dataset, Sample
from core.errors import PermanentError, UserError, nearest
from core.files import locked, new_folder, write_atomic
from core.home import Home
from core.lineage import code_version, environment_digest
from core.slo import Slo
from core.verdict import Outcome, Verdict, overall


class Example(Config):
    epochs: int = 3
    rate: float = 0.1


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown key 'epoch'; did you mean 'epochs'\?"):
        Example.from_json('{"epoch": 5}', "best.json")


def test_wrong_value_names_key_value_and_file() -> None:
    with pytest.raises(UserError, match=r"best\.json: epochs = 'many'"):
        Example.from_json('{"epochs": "many"}', "best.json")


def test_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the configuration"):
        Example.from_file(tmp_path / "none.json")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_canonical_json_does_not_depend_on_order(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


def test_equal_configurations_have_equal_digests() -> None:
    assert Example(epochs=4).content_digest() == Example(epochs=4, rate=0.1).content_digest()
    assert Example(epochs=4).content_digest() != Example().content_digest()


def test_nearest_lists_what_is_known() -> None:
    assert nearest("resnet", ["resnet18", "vit"]) == "did you mean 'resnet18'? known: resnet18, vit"
    assert nearest("x", []) == "known: (none)"


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as draft:
        (draft / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_as_a_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "f", "one")
    write_atomic(tmp_path / "a" / "f", b"two")
    assert (tmp_path / "a" / "f").read_text() == "two"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["f"]


def test_second_holder_of_a_lock_is_told_who_has_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    busy = pytest.raises(UserError, match=r"busy \(held by process \d+\)")
    with locked(lock, "busy"), busy, locked(lock, "busy"):
        pytest.fail("two holders")
    with locked(lock, "busy"):
        assert lock.read_text()


def _sample(name: str, label: str) -> Sample:
    return Sample(id=name, sha256="0" * 64, label=label, group=name, width=8, height=8, dhash="0" * 16)


def test_dataset_is_named_by_its_rows(tmp_path: Path) -> None:
    facts = {"workload": "pills", "image_size": 32, "synthetic": False, "source": "x"}
    rows = [_sample("b", "two"), _sample("a", "one")]
    written = Dataset.write(tmp_path / "one", rows, **facts)
    again = Dataset.write(tmp_path / "two", reversed(rows), **facts)
    assert written.info.digest == again.info.digest
    assert Dataset.read(tmp_path / "one").samples == [rows[1], rows[0]]
    assert written.labels == ["one", "two"]


def test_changed_dataset_is_refused(tmp_path: Path) -> None:
    Dataset.write(tmp_path, [_sample("a", "one")], workload="pills", image_size=32, synthetic=True, source="x")
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("one", "two"))
    with pytest.raises(PermanentError, match="was changed"):
        Dataset.read(tmp_path)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Outcome.INCONCLUSIVE),
        (["pass", "pass"], Outcome.PASS),
        (["pass", "inconclusive"], Outcome.INCONCLUSIVE),
        (["inconclusive", "fail"], Outcome.FAIL),
        (["fail", "error"], Outcome.ERROR),
    ],
)
def test_overall_is_the_worst_and_no_data_never_passes(outcomes: list[str], expected: Outcome) -> None:
    assert overall(Verdict(question="q", outcome=Outcome(o), reason="r") for o in outcomes) is expected


def test_home_is_option_then_environment_then_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TITRATE_HOME", raising=False)
    assert Home.find().root == tmp_path / ".titrate"
    monkeypatch.setenv("TITRATE_HOME", str(tmp_path / "env"))
    assert Home.find().root == tmp_path / "env"
    assert Home.find(str(tmp_path / "given")).root == tmp_path / "given"
    assert not (tmp_path / "given").exists()


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the home"):
        Home.find(str(tmp_path / "file"))


def test_ladder_has_no_silent_band() -> None:
    slo = Slo.load("pills")
    assert 0 < slo.accuracy.alert < slo.accuracy.retrain < slo.accuracy.gate < slo.accuracy.target < 1
    assert slo.latency.target_ms < slo.latency.p95_ms < slo.latency.p99_ms


def test_audit_log_finds_a_changed_line(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    for number in range(3):
        audit.append(log, "promoted", release=str(number))
    assert [entry["release"] for entry in audit.read(log)] == ["0", "1", "2"]
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], lines[1].replace('"1"', '"9"'), lines[2]]) + "\n")
    with pytest.raises(PermanentError, match="line 3: the line before it was changed"):
        audit.read(log)


def test_a_fact_cannot_take_the_place_of_the_chain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'previous'"):
        audit.append(tmp_path / "audit.jsonl", "promoted", previous="a release")
    assert not (tmp_path / "audit.jsonl").exists()


def test_removed_first_line_is_found(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    for number in range(2):
        audit.append(log, "promoted", release=number)
    log.write_text(log.read_text().splitlines()[1] + "\n")
    with pytest.raises(PermanentError, match="line 1"):
        audit.read(log)


def test_chain_holds_over_lines_of_any_length(tmp_path: Path) -> None:
    for size in (0, 10, 1020, 5000, 20000, 3):
        audit.append(tmp_path / "log", "x", text="y" * size)
    assert [len(entry["text"]) for entry in audit.read(tmp_path / "log")] == [0, 10, 1020, 5000, 20000, 3]


def test_torn_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    audit.append(log, "promoted", release="1", note="x" * 5000)
    with log.open("a") as file:
        file.write('{"at": "half')
    assert [entry["release"] for entry in audit.read(log)] == ["1"]
    audit.append(log, "promoted", release="2", note="x" * 5000)
    assert [entry["release"] for entry in audit.read(log)] == ["1", "2"]


def _append_many(log: Path) -> None:
    for number in range(20):
        audit.append(log, "x", number=number)


def test_audit_writers_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(tmp_path / "log",)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(audit.read(tmp_path / "log")) == 40


def test_lineage_facts_are_there() -> None:
    before = environment_digest()
    assert len(before) == 64
    importlib.import_module("setuptools")  # puts what it carries inside on sys.path
    assert environment_digest() == before
    assert code_version()
