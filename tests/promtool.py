"""Test files for `promtool test rules`, built from rates by the minute."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Part = tuple[int, float]
"""(minutes, increase a minute)."""


def tool(name: str) -> str:
    """Its path; skips, saying why, where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
    return found


def counter(*parts: Part, step: int = 1) -> str:
    """Values of a counter, one each `step` minutes, in promtool's notation."""
    words, value = [], 0.0
    for minutes, rate in parts:
        count = minutes // step
        words.append(f"{value:.9g}+{rate * step:.9g}x{count - 1}")
        value += rate * step * count
    return " ".join(words)


def gauge(*parts: Part) -> str:
    """Values of a gauge, one a minute."""
    return " ".join(f"{value:.9g}x{minutes - 1}" for minutes, value in parts)


def firing(query: str, at: int, count: int | None) -> dict[str, Any]:
    """`count` alerts that match are firing at minute `at`; none with None."""
    samples = [] if count is None else [{"labels": "{}", "value": count}]
    selected = f'{{alertstate="firing",{query}}}' if query else '{alertstate="firing"}'
    return {"expr": f"count(ALERTS{selected})", "eval_time": f"{at}m", "exp_samples": samples}


def case(series: dict[str, str], checks: list[dict[str, Any]], step: int = 1) -> dict[str, Any]:
    """One test of a file."""
    listed = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": f"{step}m", "input_series": listed, "promql_expr_test": checks}


def run(folder: Path, rules: dict[str, Any], cases: list[dict[str, Any]], every: str = "1m") -> None:
    """Run promtool on the cases; fails with what it says."""
    program = tool("promtool")
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": cases}
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [program, "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
