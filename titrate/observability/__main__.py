"""Write what is generated: `python -m titrate.observability` (`make observability`)."""

from pathlib import Path

import yaml

from core.files import write_atomic
from core.slo import Slo
from titrate.observability.alertmanager import Receivers, alertmanager
from titrate.observability.budget import budget_page
from titrate.observability.catalogue import metrics_page
from titrate.observability.dashboards import dashboards
from titrate.observability.rules import rules

ROOT = Path(__file__).parents[2]
HEAD = "# Made from workloads/*/slo.yaml by `make observability`; do not edit.\n"


def ladders() -> dict[str, Slo]:
    """The ladder of every workload that has one."""
    return {path.parent.name: Slo.load(path.parent.name) for path in sorted(ROOT.glob("workloads/*/slo.yaml"))}


def generated() -> dict[str, str]:
    """Content by path below the repository."""
    slos = ladders()
    return {
        "charts/titrate/files/rules.yaml": HEAD + _yaml(rules(slos)),
        "charts/titrate/files/alertmanager.yaml": HEAD + _yaml(alertmanager(Receivers())),
        "docs/error-budget.md": budget_page(slos),
        "docs/metrics.md": metrics_page(),
        **{f"charts/titrate/files/dashboards/{name}.json": text for name, text in dashboards().items()},
    }


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=1000)


def main() -> None:
    """Write every file."""
    for name, text in generated().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(ROOT / name, text)


if __name__ == "__main__":
    main()
