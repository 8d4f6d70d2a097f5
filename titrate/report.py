"""report.html: one self-contained page about one run, for people who were not there.

Everything is read from the run's artefacts; a run that failed has the sections that it reached.
"""

import base64
import json
from pathlib import Path
from typing import Any

from core.errors import PermanentError
from core.objects import Store
from core.pages import template

EXAMPLES_A_CLASS = 2
CLASSES_SHOWN = 16


def report(folder: Path, record: dict[str, Any]) -> str:
    """The page of the run in `folder`, whose record (titrate/run.py) is given as plain values."""
    facts = _facts(folder)
    return template(Path(__file__), "report.html.jinja", curve=curve).render(
        record=record,
        **facts,
        pictures=_pictures(folder, facts),
        plots=_plots(folder),
        classes_shown=CLASSES_SHOWN,
        rollouts={path.stem: path.read_text() for path in sorted(folder.glob("rollouts/*.html"))},
    )


def artefact(folder: Path, task: str, name: str) -> Path:
    """Where the newest attempt of a run keeps an output of a task; the path may not exist."""
    attempts = sorted(folder.glob("pipeline/*"), key=lambda path: path.stat().st_mtime)
    return (attempts[-1] if attempts else folder / "pipeline" / "none") / task / name


def _facts(folder: Path) -> dict[str, Any]:
    """The JSON files of the steps by name; None where a step did not come so far."""
    files = {
        "validation": artefact(folder, "validate", "page") / "report.json",
        "dataset": artefact(folder, "split", "parts") / "dataset.json",
        "split": artefact(folder, "split", "parts") / "split.json",
        "curves": artefact(folder, "train", "trained") / "curves.json",
        "training": artefact(folder, "train", "trained") / "train.json",
        "exported": artefact(folder, "export", "exported") / "export.json",
        "metrics": artefact(folder, "evaluate", "evaluated") / "metrics.json",
        "verdicts": artefact(folder, "gate", "gated") / "verdicts.json",
        "published": artefact(folder, "publish", "release") / "published.json",
        "lineage": artefact(folder, "publish", "release") / "release" / "lineage.json",
    }
    return {name: json.loads(path.read_text()) if path.exists() else None for name, path in files.items()}


def _pictures(folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    """Data URIs of the evaluation's examples, by the digest of the image."""
    if not facts["metrics"]:
        return {}
    store = Store(json.loads((folder / "arguments.json").read_text())["store"])
    return {example["sha256"]: _uri(store, example["sha256"]) for example in facts["metrics"]["examples"]}


def _uri(store: Store, digest: str) -> str:
    try:
        content = store.blob(digest)
    except PermanentError:  # removed since: the page is still worth having
        return ""
    kind = "png" if content.startswith(b"\x89PNG") else "webp" if content[:4] == b"RIFF" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _plots(folder: Path) -> dict[str, str]:
    """The SVG plots of the evaluation by name, without the XML declaration."""
    plots = artefact(folder, "evaluate", "evaluated") / "plots"
    return {path.stem: path.read_text()[path.read_text().index("<svg") :] for path in sorted(plots.glob("*.svg"))}


def curve(values: list[float], width: int = 480, height: int = 150, span: tuple[float, float] | None = None) -> str:
    """The points of an SVG polyline through `values`, evenly spaced, between `span` or their lowest and highest."""
    low, high = span or (min(values), max(values))
    spread, step = (high - low) or 1.0, width / max(1, len(values) - 1)
    return " ".join(f"{i * step:.1f},{height - (v - low) / spread * height:.1f}" for i, v in enumerate(values))
