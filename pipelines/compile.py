"""The graph of a workload as KFP's intermediate representation: `python -m pipelines.compile WORKLOAD FILE.yaml`."""

import importlib
import sys
from pathlib import Path

from kfp import compiler

from core.errors import UserError, nearest
from pipelines.platform import Platform, placed

FOLDER = Path(__file__).parent
OTHERS = {"__init__", "compile", "local", "platform"}


def graphs() -> list[str]:
    """Workloads that have a graph."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in OTHERS)


def write_ir(workload: str, target: Path, platform: Platform | None = None, config: str = "") -> None:
    """Compile to YAML, for `platform` where one is given; KFP's own validation runs on the way.

    `config` is the run configuration that a run there has by default. Raises UserError for an unknown workload.
    """
    if workload not in graphs():
        raise UserError(f"no pipeline of {workload!r}; {nearest(workload, graphs())}")
    graph = importlib.import_module(f"pipelines.{workload}").pipeline
    compiler.Compiler().compile(placed(graph, platform, config) if platform else graph, str(target))


if __name__ == "__main__":
    write_ir(sys.argv[1], Path(sys.argv[2]))
