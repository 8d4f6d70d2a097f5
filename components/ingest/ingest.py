"""From what the user has to a dataset: every image read, checked, stored without metadata, named by its content.

The originals are not touched. Images are examined one by one, in as many processes as there are cores when there are
many; none is held longer than it takes. A killed call leaves no dataset, and the same call goes on where it was.
Next: `components/validate`.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from components.ingest.image import Examiner, Outcome, Stored
from components.ingest.journal import Journal
from components.ingest.report import IngestReport, Quarantined
from core.config import canonical_json
from core.dataset import Dataset, Sample
from core.errors import TemporaryError
from core.files import new_folder, sha256_bytes, write_atomic
from core.objects import Store
from core.process import die_with_parent
from core.progress import Progress
from workloads.contract import load

POOL_FROM = 1000
"""Images; below, starting processes takes longer than they save."""

CHUNK = 32
"""Images a process takes at a time."""

OPTIONAL = ("group", "side", "split", "taken_at")


def ingest(workload: str, source: Path, store: Store, out: Path, work: Path | None = None) -> IngestReport:
    """Turn `source` (a folder or manifest, as the workload's `data` reads it) into a dataset folder `out`.

    `out` gets the dataset (core/dataset.py), `quarantine.jsonl` and `ingest.json`, all at once; images go to `store`.
    `work` holds what a killed call had finished (default: beside `out`). Raises UserError and DataError for a source
    that cannot be read at all; single bad images are quarantined, and `validate` judges how many are too many.
    """
    data = load(workload).data
    found = data.read_source(source)
    journal = _journal_path(work or out.parent, found.root, store)
    with Journal.open(journal, found.root, store) as finished:
        outcomes = {outcome.path: outcome for outcome in _examine(workload, found, store, finished)}
        stored = [outcome for outcome in outcomes.values() if isinstance(outcome, Stored)]
        refused = [Quarantined(path=path, code="bad_row", reason=reason) for path, reason in found.refused]
        refused += [outcome for outcome in outcomes.values() if isinstance(outcome, Quarantined)]
        sizes = [(image.width, image.height) for image in stored]
        info = {
            "workload": workload,
            "image_size": data.default_image_size(sizes) if sizes else 0,
            "synthetic": found.synthetic,
            "source": found.name,
            "quarantined": len(refused),
        }
        with new_folder(out) as draft:
            dataset = Dataset.write(draft, _samples(found.rows, outcomes), **info)
            report = _report(dataset, found.rows, stored, refused)
            write_atomic(draft / "quarantine.jsonl", _lines(refused))
            write_atomic(draft / "ingest.json", report.model_dump_json(indent=2))
    return report


def _journal_path(folder: Path, root: Path, store: Store) -> Path:
    key = sha256_bytes(canonical_json([str(root), store.uri]).encode())
    return folder / f".ingest-{key[:16]}.jsonl"


def _examine(workload: str, found: Any, store: Store, journal: Journal) -> Iterator[Outcome]:
    """The outcome of every row of the source; finished ones first."""
    progress = Progress("ingest", len(found.rows))
    left = []
    done = 0
    for row in found.rows:
        if stored := journal.finished(row.path):
            done += 1
            yield stored
        else:
            left.append(row.path)
    progress.resume_at(done)
    for outcome in _outcomes(workload, found.root, store, left):
        if isinstance(outcome, Stored):
            journal.note(outcome)
        done += 1
        progress.update(done)
        yield outcome


def _outcomes(workload: str, root: Path, store: Store, paths: Sequence[str]) -> Iterator[Outcome]:
    """The outcome of each path, in order; by worker processes when there are many."""
    if len(paths) < POOL_FROM:
        examiner = _examiner(workload, root, store.uri)
        yield from map(examiner.examine, paths)
        return
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    pool = ProcessPoolExecutor(
        max_workers=len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("spawn"),  # a fork would copy the locks of OpenCV's and torch's threads
        initializer=_Worker.start,
        initargs=(os.getpid(), workload, root, store.uri),
    )
    try:
        yield from chain.from_iterable(pool.map(_Worker.examine, chunks))
    except BrokenProcessPool as error:
        raise TemporaryError(
            "a process that reads images was killed, probably for want of memory; the same command goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _examiner(workload: str, root: Path, store: str) -> Examiner:
    modules: Any = load(workload)
    return Examiner(root, Store(store), modules.preprocess, modules.features)


class _Worker:
    """One process of the pool."""

    examiner: ClassVar[Examiner]

    @classmethod
    def start(cls, parent: int, workload: str, root: Path, store: str) -> None:
        """First thing in the process."""
        die_with_parent(parent=parent)
        cls.examiner = _examiner(workload, root, store)

    @classmethod
    def examine(cls, paths: Sequence[str]) -> list[Outcome]:
        """The outcomes of a chunk."""
        return [cls.examiner.examine(path) for path in paths]


def _samples(rows: Iterable[Any], outcomes: dict[str, Outcome]) -> Iterator[Sample]:
    """The good rows. One without a group is its own, named by its content: a renamed file keeps its side."""
    for row in rows:
        image = outcomes[row.path]
        if isinstance(image, Stored):
            yield Sample(
                id=row.path,
                sha256=image.sha256,
                label=row.label,
                group=row.group or image.original,
                split=row.split,
                side=row.side,
                taken_at=row.taken_at,
                width=image.width,
                height=image.height,
                dhash=image.dhash,
            )


def _report(
    dataset: Dataset, rows: Iterable[Any], stored: Sequence[Stored], refused: Sequence[Quarantined]
) -> IngestReport:
    good = {image.path for image in stored}
    kept = [row for row in rows if row.path in good]
    distinct = {image.sha256: image.bytes_stored for image in stored}
    return IngestReport(
        workload=dataset.info.workload,
        dataset=dataset.info.digest,
        source=dataset.info.source,
        rows=len(stored) + len(refused),
        good=len(stored),
        quarantined=len(refused),
        reasons=dict(sorted(Counter(row.code for row in refused).items())),
        changes=dict(sorted(Counter(image.change for image in stored).items())),
        duplicates=len(stored) - len(distinct),
        missing={name: sum(getattr(row, name) is None for row in kept) for name in OPTIONAL},
        bytes_read=sum(image.bytes_read for image in stored),
        bytes_stored=sum(distinct.values()),
    )


def _lines(refused: Iterable[Quarantined]) -> str:
    ordered = sorted(refused, key=lambda row: row.path)
    return "".join(canonical_json(row.model_dump()) + "\n" for row in ordered)
