import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.ingest.ingest import ingest
from components.validate.judge import judge
from components.validate.page import page
from components.validate.report import Limits, ValidationReport
from components.validate.validate import validate
from core.errors import DataError
from core.objects import Store
from core.verdict import Outcome


def image(seed: int, size: int = 40, quality: int = 0) -> bytes:
    """A picture of smooth blobs, a different one for each seed; a JPEG when a quality is given."""
    rough = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    picture = Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality) if quality else picture.save(out, "PNG")
    return out.getvalue()


class Case:
    """A source that is written file by file, then ingested and validated."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.store = Store(str(root / "store"))
        self.dataset = root / "dataset"
        self.out = root / "out"
        self.seed = 0

    def add(self, label: str, count: int, content: Callable[[int], bytes] = image) -> "Case":
        """`count` further images of a class."""
        (self.data / label).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            self.seed += 1
            (self.data / label / f"{self.seed:04}.png").write_bytes(content(self.seed))
        return self

    def validate(self, limits: Limits | None = None) -> ValidationReport:
        ingest("pills", self.data, self.store, self.dataset)
        return validate(self.dataset, self.store, self.out, limits)

    def refused(self) -> DataError:
        with pytest.raises(DataError) as caught:
            self.validate()
        return caught.value

    @property
    def html(self) -> str:
        return (self.out / "report.html").read_text()

    @property
    def report(self) -> ValidationReport:
        return ValidationReport.from_file(self.out / "report.json")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_good_data_passes_and_is_described(case: Case) -> None:
    report = case.add("round", 12).add("oval", 8).validate()
    assert report.outcome is Outcome.PASS and all(v.outcome is Outcome.PASS for v in report.verdicts)
    assert report.classes == {"oval": 8, "round": 12} and report.rows == report.good == 20
    assert report.sizes is not None and report.sizes.width.median == 40 and report.sizes.shorter == (("32 to 63", 20),)
    assert report.colour is not None and report.colour.images == 20 and sum(report.colour.brightness) == 20
    assert report.colour.grey == report.colour.flat == 0
    assert {label: len(pictures) for label, pictures in report.examples.items()} == {"round": 6, "oval": 6}
    assert report.missing == {"group": 20, "side": 20, "split": 20, "taken_at": 20}
    assert case.report == report


def test_twelve_percent_of_broken_images_stop_the_run_with_their_list(case: Case) -> None:
    case.add("round", 44).add("oval", 44).add("oval", 8, lambda seed: image(seed)[:200]).add("round", 4, lambda _: b"")
    error = case.refused()
    assert "88.0% of 100 rows can be used" in str(error) and "truncated: 8" in str(error) and "empty: 4" in str(error)
    assert len(error.rows) == 12 and all(path.endswith(".png") and reason for path, reason in error.rows)
    assert case.report.outcome is Outcome.FAIL and "The run stops" in case.html
    assert all(path in case.html for path, _ in error.rows)


def test_ten_percent_of_broken_images_pass_with_a_warning(case: Case) -> None:
    report = case.add("round", 45).add("oval", 45).add("oval", 10, lambda _: b"no").validate()
    assert report.outcome is Outcome.PASS and "10 rows are quarantined and not learned from" in report.warnings


def test_classes_with_too_few_images_stop_the_run_by_name(case: Case) -> None:
    error = case.add("round", 20).add("rare", 4).add("lone", 1).refused()
    assert "fewer in 2: 'lone' has 1, 'rare' has 4" in str(error)
    assert error.rows == [("lone", "1 images that can be used"), ("rare", "4 images that can be used")]
    assert case.validate(Limits(min_images=1)).outcome is Outcome.PASS


def test_one_class_with_images_that_can_be_used_is_not_enough(case: Case) -> None:
    error = case.add("round", 30).add("oval", 3, lambda _: b"no").refused()
    assert "1 with images that can be used (round)" in str(error)


def test_a_source_without_any_image_that_can_be_used_still_gets_its_report(case: Case) -> None:
    error = case.add("round", 3, lambda _: b"no").add("oval", 3, lambda _: b"").refused()
    assert len(error.rows) == 6 and case.report.sizes is None and "not_an_image" in case.html


def test_repeats_near_duplicates_and_contradicting_labels_are_found(case: Case) -> None:
    case.add("round", 10).add("oval", 10)
    case.add("round", 2, lambda _: image(1))
    case.add("oval", 1, lambda _: image(2))
    case.add("round", 1, lambda _: image(3, size=160, quality=85))
    report = case.validate()
    assert report.duplicates == 3 and report.near_duplicates == 2
    assert sorted(found.count for found in report.alike) == [2, 2, 3]
    assert report.conflicts == 1 and set(report.conflicting[0].labels) == {"round", "oval"}
    assert report.conflicting[0].bits == 0 and len(report.conflicting[0].pictures) == 2
    assert any("two labels" in warning for warning in report.warnings)
    assert "Alike, but under two labels" in case.html


def test_a_group_on_two_sides_of_the_given_split_stops_the_run(case: Case) -> None:
    case.add("a", 10).add("b", 10)
    paths = sorted(path.relative_to(case.data).as_posix() for path in case.data.rglob("*.png"))
    rows = [f"{path},{path[0]},pill {number // 2},{'train' if number % 4 else 'test'}\n"
            for number, path in enumerate(paths)]  # fmt: skip
    (case.data / "manifest.csv").write_text("path,label,group,split\n" + "".join(rows))
    error = case.refused()
    assert ("pill 0", "1 rows in test, 1 rows in train") in error.rows
    assert "5 found" in str(error) and "pill 0" in case.html


def test_near_duplicates_across_a_given_split_are_a_warning(case: Case) -> None:
    case.add("a", 10).add("b", 9).add("b", 1, lambda _: image(12, size=160, quality=85))
    paths = sorted(path.relative_to(case.data).as_posix() for path in case.data.rglob("*.png"))
    rows = [f"{path},{path[0]},{'test' if path.endswith('0020.png') else 'train'}\n" for path in paths]
    (case.data / "manifest.csv").write_text("path,label,split\n" + "".join(rows))
    assert any("on two sides of the given split" in warning for warning in case.validate().warnings)


class Page(HTMLParser):
    """Collects tags, and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_needs_nothing_from_elsewhere(case: Case) -> None:
    case.add("round", 12).add("oval", 8).validate()
    seen = Page()
    seen.feed(case.html)
    assert "svg" in seen.tags and not seen.tags & {"script", "link", "iframe", "object"}
    assert seen.loaded and all(value.startswith("data:image/jpeg;base64,") for value in seen.loaded)
    assert "url(" not in case.html and "@import" not in case.html


def test_names_cannot_break_the_page(case: Case) -> None:
    case.add("<script>alert(1)", 6).add('"><b>', 6).add('"><b>', 1, lambda _: b"no")
    with pytest.raises(DataError):
        case.validate(Limits(good_share=0.99))
    seen = Page()
    seen.feed(case.html)
    assert "script" not in seen.tags and "&lt;script&gt;alert(1)" in case.html


def test_the_same_data_gives_the_same_report(case: Case, tmp_path: Path) -> None:
    case.add("round", 12).add("oval", 8).validate()
    first = case.html
    case.validate()
    assert case.html == first


def test_a_hundred_thousand_classes_are_refused_in_few_words() -> None:
    classes = {f"class {number}": 1 for number in range(100_000)}
    verdicts = judge(100_000, {}, classes, [], Limits())
    assert [v.outcome for v in verdicts] == [Outcome.PASS, Outcome.FAIL, Outcome.FAIL, Outcome.PASS]
    assert verdicts[1].reason == "100,000 with images that can be used"
    assert verdicts[2].reason.endswith("and 99,992 more") and len(verdicts[2].reason) < 400


def test_no_rows_are_no_pass() -> None:
    assert {v.outcome for v in judge(0, {}, {}, [], Limits())[:3]} == {Outcome.FAIL}


def test_the_page_of_ten_thousand_classes_stays_small(case: Case) -> None:
    report = case.add("round", 12).add("oval", 8).validate()
    many: dict[str, Any] = {"classes": {f"class {n:05}": 5 + n % 90 for n in range(10_000)}}
    text = page(report.model_copy(update=many | {"examples": {}}))
    assert len(text) < 200_000 and len(re.findall("<rect", text)) == 120 + 16


def test_the_numbers_of_the_dashboard_are_numbers(case: Case) -> None:
    counts = case.add("round", 12).add("oval", 8).validate().counts()
    assert json.loads(json.dumps(counts)) == counts and counts["good_share"] == 1
