"""What the user has, in every shape it comes in, and what is wrong with it."""

import csv
import json
import os
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError, UserError
from workloads.pills.data import Source, SourceRow, default_image_size, read_source


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def folder(root: Path, *names: str) -> Path:
    for name in names:
        touch(root / name)
    return root


def jsonl(root: Path, *records: object) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    return touch(root / "manifest.jsonl", text.encode())


def as_pairs(source: Source) -> list[tuple[str, str]]:
    return [(row.path, row.label) for row in source.rows]


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    root = folder(
        tmp_path / "my data", "a/1.jpg", "a/deep/2.PNG", "b/no suffix", "b/.hidden.jpg", "b/Thumbs.db", ".git/x"
    )
    source = read_source(root)
    assert as_pairs(source) == [("a/1.jpg", "a"), ("a/deep/2.PNG", "a"), ("b/no suffix", "b")]
    assert (source.name, source.labels, source.refused, source.synthetic) == ("my data", ["a", "b"], (), False)


@pytest.mark.parametrize(
    "name", ["with space.jpg", "quo'te\".jpg", "ünï-código-薬.png", "nb\u00a0sp\u202f.jpg", "new\nline.jpg", " .jpg"]
)
def test_any_name_is_read_from_folder_csv_and_jsonl(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path, f"a/{name}", "b/1.jpg")
    expected = sorted([(f"a/{name}", "a"), ("b/1.jpg", "b")])
    assert as_pairs(read_source(root)) == expected
    records = [{"path": f"a/{name}", "label": "a"}, {"path": "./b//1.jpg", "label": "b"}]
    listed = jsonl(root, *records)
    assert as_pairs(read_source(root)) == expected
    listed.unlink()
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["path", "label"])
        writer.writeheader()
        writer.writerows(records)
    assert as_pairs(read_source(root)) == expected
    assert as_pairs(read_source(root / "manifest.csv")) == expected


def test_optional_columns(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "manifest.csv").write_text(
        "path,label,group,side,split,taken_at,colour\n"
        "1.jpg,a,g1,front,train,2024-05-01T10:00:00+02:00,red\n"
        "2.jpg,b,,,val,2024-05-02,\n"
        "3.jpg,c,,,,,\n"
    )
    moment = datetime.fromisoformat("2024-05-01T10:00:00+02:00")
    assert read_source(tmp_path).rows == (
        SourceRow("1.jpg", "a", "g1", "front", "train", moment),
        SourceRow("2.jpg", "b", None, None, "validation", datetime(2024, 5, 2, tzinfo=UTC)),
        SourceRow("3.jpg", "c"),
    )


def test_epillid_columns(tmp_path: Path) -> None:
    folder(tmp_path, "dc/1.jpg", "dc/2.jpg")
    (tmp_path / "folds.csv").write_text(
        "images,pilltype_id,label_code_id,is_ref,is_front,image_path,label\n"
        "1.jpg,51285-0092-87_BE305F72,12,True,True,dc/1.jpg,0\n"
        "2.jpg,00093-2263_BE12,13,False,False,dc/2.jpg,1\n"
    )
    source = read_source(tmp_path / "folds.csv")
    assert [(row.label, row.side) for row in source.rows] == [
        ("51285-0092-87_BE305F72", "front"),
        ("00093-2263_BE12", "back"),
    ]
    assert source.name == "folds"


def test_rows_that_cannot_be_used_are_refused_with_a_reason_and_the_rest_is_kept(tmp_path: Path) -> None:
    folder(tmp_path, *(f"{n}.jpg" for n in range(9)))
    (tmp_path / "folder").mkdir()
    good = [{"path": "0.jpg", "label": "a"}, {"path": "1.jpg", "label": 7}]
    bad = [
        ({"path": "2.jpg"}, "no label"),
        ({"path": "3.jpg", "label": "  "}, "no label"),
        ({"label": "a"}, "no path"),
        ({"path": "gone.jpg", "label": "a"}, "no such file"),
        ({"path": "folder", "label": "a"}, "not a file"),
        ({"path": "4.jpg", "label": "two\nlines"}, "no short line"),
        ({"path": "5.jpg", "label": ["a"]}, "no short line"),
        ({"path": "6.jpg", "label": "a", "split": "dev"}, "split 'dev'"),
        ({"path": "7.jpg", "label": "a", "taken_at": "yesterday"}, "taken_at"),
        ({"path": "8\0.jpg", "label": "a"}, "not UTF-8"),
        ({"path": "\ud800.jpg", "label": "a"}, "not UTF-8"),
        ({"path": "n" * 300, "label": "a"}, "cannot be followed"),
        ({"path": "1.jpg", "label": "b"}, "listed before, as '7'"),
    ]
    jsonl(tmp_path, *good, *(record for record, _ in bad))
    source = read_source(tmp_path)
    assert as_pairs(source) == [("0.jpg", "a"), ("1.jpg", "7")]
    assert len(source.refused) == len(bad)
    for record, reason in bad:
        assert any(reason in why for _, why in source.refused), record
    json.dumps(source.refused, ensure_ascii=False).encode()  # a report can carry them


def test_a_shifted_csv_row_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "manifest.csv").write_text("path,label\n1.jpg,a\n2.jpg,b\n3, 4.jpg,c\nshort.jpg\n")
    source = read_source(tmp_path)
    assert len(source.rows) == 2
    assert "more values than columns" in source.refused[0][1]


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "b" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    assert read_source(tmp_path).refused == (("b/caf\\udce9.jpg", "the file's name is not UTF-8 text: rename it"),)


def test_one_class_spelled_in_two_normal_forms_is_one_class(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "comprimé")
    source = read_source(folder(tmp_path, "comprimé/1.jpg", f"{nfd}/2.jpg", "b/1.jpg"))
    assert source.labels == ["b", "comprimé"]
    assert all((tmp_path / row.path).is_file() for row in source.rows)


@pytest.mark.parametrize("leak", ["../secret.jpg", "a/../../secret.jpg", "{outside}"])
def test_a_manifest_that_leads_out_is_an_error(tmp_path: Path, leak: str) -> None:
    secret = touch(tmp_path / "secret.jpg")
    root = folder(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    jsonl(root, {"path": "a/1.jpg", "label": "a"}, {"path": leak.format(outside=secret), "label": "b"})
    with pytest.raises(DataError, match="leads out of"):
        read_source(root)


def test_dots_and_absolute_paths_that_stay_inside_are_fine(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/1.jpg")
    jsonl(tmp_path, {"path": "b/../a/1.jpg", "label": "a"}, {"path": str(tmp_path / "b/1.jpg"), "label": "b"})
    assert as_pairs(read_source(tmp_path)) == [("a/1.jpg", "a"), ("b/1.jpg", "b")]


@pytest.mark.parametrize("link", ["a/link.jpg", "c", "a/deep"])
def test_a_link_that_leads_out_is_an_error(tmp_path: Path, link: str) -> None:
    outside = touch(tmp_path / "outside" / "secret.jpg")
    root = folder(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    (root / link).symlink_to(outside if link.endswith(".jpg") else outside.parent)
    with pytest.raises(DataError, match="leads out of"):
        read_source(root)


def test_links_inside_are_followed_to_files_but_not_to_folders(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    (root / "a/2.jpg").symlink_to(root / "b/1.jpg")
    (root / "a/loop").symlink_to(root)
    (root / "a/self").symlink_to(root / "a/self")
    (root / "a/dangling.jpg").symlink_to(root / "gone.jpg")
    entrance = tmp_path / "entrance"
    entrance.symlink_to(root)
    for place in (root, entrance):
        source = read_source(place)
        assert [row.path for row in source.rows] == ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
        assert sorted(path for path, _ in source.refused) == ["a/dangling.jpg", "a/loop", "a/self"]


def test_useless_sources_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    def fails(root: Path, match: str, kind: type[UserError] = DataError) -> None:
        with pytest.raises(kind, match=match) as caught:
            read_source(root)
        assert type(caught.value) is kind

    (tmp_path / "empty").mkdir()
    fails(tmp_path / "missing", "no folder or manifest", UserError)
    fails(tmp_path / "empty", "expected CLASS/IMAGE")
    fails(folder(tmp_path / "flat", "1.jpg", "2.jpg"), "holds 2 files, no class folders")
    fails(folder(tmp_path / "one", "a/1.jpg", "a/2.jpg"), "one class, 'a'.*give")
    fails(folder(tmp_path / "splits", "train/a/1.jpg", "Test/a/2.jpg"), "name splits, not classes")
    for name in ("a", "b"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    fails(tmp_path / "hollow", "nothing to learn from")
    fails(
        jsonl(tmp_path / "gone", {"path": "1.jpg", "label": "a"}), "every row is refused.*1.jpg: there is no such file"
    )
    fails(touch(tmp_path / "columns.csv", b"file,class\n1.jpg,a\n"), "needs the columns path,label .*file, class")
    fails(touch(tmp_path / "nothing.csv", b""), "it has none")
    fails(touch(tmp_path / "latin.csv", "path,label\ncafé.jpg,a\n".encode("latin-1")), "UTF-8")
    fails(touch(tmp_path / "quote.csv", b'path,label\n"1.jpg,a\n'), "no manifest")
    fails(touch(tmp_path / "broken.jsonl", b'{"path": \n'), "line 1 is no JSON")
    fails(touch(tmp_path / "list.jsonl", b"[1]\n"), "no JSON object")
    fails(folder(tmp_path / "both", "manifest.csv", "manifest.jsonl").resolve(), "holds both", UserError)


def test_a_hundred_thousand_classes_are_too_many(tmp_path: Path) -> None:
    touch(tmp_path / "1.jpg")
    lines = "".join(f"./{'/' * n}1.jpg,c{n}\n" for n in range(3))
    (tmp_path / "few.csv").write_text("path,label\n" + lines)
    with pytest.raises(DataError, match="one class"):  # the same file again and again
        read_source(tmp_path / "few.csv")
    for number in range(10_001):
        (tmp_path / "many" / f"c{number}").mkdir(parents=True)
    with pytest.raises(DataError, match="10,001 folders; at most 10,000"):
        read_source(tmp_path / "many")


def test_many_classes_in_a_manifest(tmp_path: Path) -> None:
    files = [touch(tmp_path / f"{n}.jpg") for n in range(10_001)]
    records = [{"path": file.name, "label": f"c{number}"} for number, file in enumerate(files)]
    jsonl(tmp_path, *records)
    with pytest.raises(DataError, match="10,001 classes; at most 10,000"):
        read_source(tmp_path)
    jsonl(tmp_path, *records[1:])
    assert len(read_source(tmp_path).labels) == 10_000


def test_the_renderers_mark_makes_a_source_synthetic(tmp_path: Path) -> None:
    folder(tmp_path, "a/1.jpg", "b/1.jpg")
    mark = touch(tmp_path / "dataset.json", b'{"synthetic": true}')
    assert read_source(tmp_path).synthetic
    mark.write_bytes(b"not json")
    assert not read_source(tmp_path).synthetic


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(8, 8)], 32), ([(96, 96)], 96), ([(1000, 750)], 96), ([(70, 61), (62, 90), (400, 300)], 64), ([(300, 50)], 48)],
)
def test_the_default_size_is_the_median_shorter_side_in_bounds(sizes: list[tuple[int, int]], expected: int) -> None:
    assert default_image_size(sizes) == expected


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1))
def test_the_default_size_is_always_usable(sizes: list[tuple[int, int]]) -> None:
    size = default_image_size(iter(sizes))
    assert 32 <= size <= 96
    assert size % 8 == 0


def test_no_image_has_no_size() -> None:
    with pytest.raises(DataError):
        default_image_size([])
