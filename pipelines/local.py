"""Runs a compiled graph's function on this machine: `python -m pipelines.local WORKLOAD ARGUMENTS.json FOLDER`.

KFP's SubprocessRunner starts each task as a process of this environment. Caching stays off: the steps themselves find
what an interrupted run left, and a cached task would not notice that its data or its code changed.
"""

import importlib
import json
import sys
import warnings
from pathlib import Path

from kfp import local

from core.process import die_with_parent


def main(workload: str, arguments: Path, folder: Path) -> int:
    """Run the pipeline; returns the exit code. Artefacts lie below `folder/pipeline`."""
    die_with_parent()
    warnings.filterwarnings("ignore", "You may be attem", RuntimeWarning)  # the image's packages are this environment's
    graph = importlib.import_module(f"pipelines.{workload}").pipeline
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "pipeline"),
        workspace_root=str(folder / "workspace"),
    )
    try:
        graph(**json.loads(arguments.read_text()))
    except RuntimeError as error:  # KFP's only word for a failed task; the step has told why
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
