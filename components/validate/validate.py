"""Is this data fit to learn from? The answer, its reasons and the picture of the data, for people and for programs.

Reads what `ingest` wrote. Both reports are written before the answer is given, so a run that stops can be looked at.
Next: `components/split`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.ingest.report import IngestReport, Quarantined
from components.split.groups import given_sides
from components.validate.alike import Likeness, compare
from components.validate.judge import judge
from components.validate.page import page
from components.validate.profile import Decode, colour, examples, sizes
from components.validate.report import ColourProfile, Limits, ValidationReport
from core.dataset import Dataset, Sample
from core.errors import DataError
from core.files import new_folder, write_atomic
from core.objects import Store
from core.verdict import Outcome, overall
from workloads.contract import load

IMBALANCE = 20
"""Times; a class that is so much smaller than the largest is hardly learned without weights."""


def validate(dataset_folder: Path, store: Store, out: Path, limits: Limits | None = None) -> ValidationReport:
    """The report on a dataset, written as `report.json` and `report.html` to the folder `out`.

    Raises DataError, after writing both, when a verdict is not a pass; its rows name what to put right.
    """
    report = examine(dataset_folder, store, limits or Limits())
    with new_folder(out) as draft:
        write_atomic(draft / "report.json", report.model_dump_json(indent=1))
        write_atomic(draft / "report.html", page(report))
    if report.outcome is not Outcome.PASS:
        raise refusal(report)
    return report


def examine(dataset_folder: Path, store: Store, limits: Limits) -> ValidationReport:
    """The report on the dataset in a folder that `ingest` wrote."""
    dataset = Dataset.read(dataset_folder)
    ingested = IngestReport.from_file(dataset_folder / "ingest.json")
    decode = _decoder(dataset.info.workload, store)
    quarantined = _quarantined(dataset_folder)
    leaks = _leaks(dataset.samples)
    verdicts = judge(dataset.info.rows, ingested.reasons, dataset.info.classes, leaks, limits)
    likeness = compare(dataset.samples, decode)
    colours = colour(dataset.samples, decode)
    return ValidationReport(
        workload=dataset.info.workload,
        dataset=dataset.info.digest,
        source=dataset.info.source,
        synthetic=dataset.info.synthetic,
        limits=limits,
        outcome=overall(verdicts),
        verdicts=tuple(verdicts),
        warnings=tuple(_warnings(ingested, dataset.info.classes, likeness, colours)),
        good=dataset.info.rows,
        quarantined=quarantined,
        reasons=ingested.reasons,
        classes=dataset.info.classes,
        sizes=sizes(dataset.samples),
        colour=colours,
        duplicates=likeness.duplicates,
        near_duplicates=likeness.near_duplicates,
        alike=likeness.alike,
        conflicts=likeness.conflicts,
        conflicting=likeness.conflicting,
        leaks=tuple(leaks),
        missing=ingested.missing,
        changes={str(change): count for change, count in ingested.changes.items()},
        examples=examples(dataset.samples, dataset.info.classes, decode),
    )


def refusal(report: ValidationReport) -> DataError:
    """The error of a report whose verdicts are not all passes: every reason, and the rows, classes and groups."""
    failed = [verdict for verdict in report.verdicts if verdict.outcome is not Outcome.PASS]
    reasons = "; ".join(f"{verdict.question}: {verdict.reason}" for verdict in failed)
    small = [
        (label, f"{count} images that can be used")
        for label, count in report.classes.items()
        if count < report.limits.min_images
    ]
    bad = [(row.path, f"{row.code}: {row.reason}") for row in report.quarantined]
    return DataError(f"the data of {report.source!r} cannot be used: {reasons}", [*bad, *small, *report.leaks])


def _decoder(workload: str, store: Store) -> Decode:
    preprocess = load(workload).preprocess
    return lambda digest, side: preprocess.decode(store.blob(digest), side)


def _quarantined(folder: Path) -> tuple[Quarantined, ...]:
    lines = (folder / "quarantine.jsonl").read_bytes().splitlines()
    return tuple(Quarantined.model_validate_json(line) for line in lines)


def _leaks(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    try:
        given_sides(samples)
    except DataError as torn:
        return torn.rows
    return []


def _warnings(
    ingested: IngestReport, classes: Mapping[str, int], likeness: Likeness, colours: ColourProfile | None
) -> list[str]:
    counts = Counter(classes.values())
    largest, smallest = max(counts, default=0), min(counts, default=1)
    flat = round(colours.flat * colours.images) if colours else 0
    found = [
        (ingested.quarantined, f"{ingested.quarantined:,} rows are quarantined and not learned from"),
        (
            likeness.conflicts,
            f"{likeness.conflicts:,} pairs of images look alike but have two labels: one may be wrong",
        ),
        (likeness.across, f"{likeness.across:,} pairs of images that look alike are on two sides of the given split"),
        (likeness.overflow, "the images are so alike that not all near-duplicates were listed"),
        (
            ingested.good and ingested.missing.get("group") == ingested.good,
            "no row names a group: photographs of one object or session may come to lie on both sides of the split",
        ),
        (
            largest > IMBALANCE * smallest,
            f"the largest class has {largest / smallest:.0f} times the images of the smallest",
        ),
        (ingested.changes.get("converted"), "16-bit or CMYK images are learned from as 8-bit RGB"),
        (flat, f"{flat} of the {colours.images if colours else 0} images that were looked at show next to nothing"),
    ]
    return [text for holds, text in found if holds]
