"""What runs use and cost."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from core.errors import UserError
from core.home import Home
from titrate.cost import Cost, Meter, Prices
from titrate.run import RunRecord
from titrate.tables import runs_table

BURN = "import time\nblock = bytearray(80 * 2**20)\nwhile time.process_time() < 0.5: pass"


def test_the_processor_time_and_memory_of_children_are_counted():
    meter = Meter()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    found = meter.read()
    assert 0.5 <= found.cpu_seconds < 3
    assert found.peak_memory_mb >= 80
    assert Meter().read().cpu_seconds == 0


def test_attempts_add_up_and_the_largest_process_counts():
    first, second = Cost(cpu_seconds=10, peak_memory_mb=500), Cost(cpu_seconds=5, gpu_seconds=7, peak_memory_mb=300)
    assert first.plus(second) == Cost(cpu_seconds=15, gpu_seconds=7, peak_memory_mb=500)
    assert first.plus(Cost(energy_joules=3.0)).energy_joules == 3.0


def test_money_is_hours_by_price():
    assert Cost(cpu_seconds=7200, gpu_seconds=1800).money(Prices(cpu_hour=0.04, gpu_hour=2.5)) == pytest.approx(1.33)


def test_the_table_shows_money_only_by_the_homes_prices(tmp_path):
    home = Home(tmp_path)
    assert Prices.of(home) is None
    facts = {"id": "pills-1", "workload": "pills", "source": "s", "command": "c", "status": "succeeded"}
    record = RunRecord(**facts, started_at=datetime.now(UTC), cost=Cost(cpu_seconds=3600, peak_memory_mb=900))
    assert "3600 s" in runs_table([record]) and "900 MiB" in runs_table([record])
    (tmp_path / "prices.json").write_text('{"currency": "CHF", "cpu_hour": 0.05}')
    assert "0.05 CHF" in runs_table([record], Prices.of(home))
    (tmp_path / "prices.json").write_text('{"cpu_hours": 0.05}')
    with pytest.raises(UserError, match="did you mean 'cpu_hour'"):
        Prices.of(home)
