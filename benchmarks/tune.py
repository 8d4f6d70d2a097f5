"""What a sweep costs and what it saves: `python -m benchmarks.tune [--asha] [--quick]` (exits with 1 below a bar).

Overhead: trials an hour of `python -m tuning` (what `titrate tune` runs) over those of the same trainings as bare
subprocesses, as many at once as there are cores, MLflow in both. Both take turns; nothing is stopped early, so both do
the same work; the start of Ray counts. The ratio is judged by its median over the rounds.

ASHA (`--asha`): 12 trials of 12 epochs of each of three seeds, once trained to their ends and once stopped early. It
must find the best score minus 0.5 points in 40 % of the compute, counted in epochs, which neighbours on the machine do
not change.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.train import dataset
from components.train.job import Tracking
from core.config import with_values
from core.objects import Store
from tuning.records import Journal, Sweep
from tuning.sweep import sweep
from tuning.training import TrialJob
from workloads.pills.recipes import PillsConfig, demo
from workloads.space import Choice, Space, Uniform

OVERHEAD_BAR, COMPUTE_BAR, POINTS = 0.9, 0.40, 0.005
SEEDS = (0, 1, 2)
ASHA_TRIALS, ASHA_IMAGES = 12, 6144
"""12 epochs of 512 images; 256 more select, so that half a point is more than one of them."""
CORES = len(os.sched_getaffinity(0))


def config(images: int) -> PillsConfig:
    """The demo recipe at 32 px for `images` images."""
    values = {"image_size": 32, "train.images": images, "train.min_epochs": 1, "export.calibration_share": 0.0}
    return with_values(demo(), values, "benchmark")


def settings(folder: Path, name: str, images: int, space: Space, trials: int, stop_early: bool, seed: int = 0) -> Sweep:
    """A sweep on the rendered pills, with its own working folder."""
    return Sweep(
        workload="pills",
        dataset=str(folder / "data"),
        store=Store(str(folder / "objects")).uri,
        work=str(folder / name / "work"),
        config=config(images).model_dump_json(),
        space=space,
        trials=trials,
        seed=seed,
        stop_early=stop_early,
        tracking=Tracking(uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="bench", run=name),
    )


def swept(folder: Path, name: str, one: Sweep) -> float:
    """Seconds of the sweep, from the start of its driver to its end."""
    (folder / name).mkdir()
    (folder / name / "settings.json").write_text(one.model_dump_json())
    words = [sys.executable, "-m", "tuning", str(folder / name / "settings.json"), str(folder / name)]
    began = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    assert len(Journal(folder / name).in_state("finished")) == one.trials
    return seconds


def bare(folder: Path, name: str, one: Sweep) -> float:
    """Seconds of the same trainings as subprocesses, as many at once as there are cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def train(seed: int) -> None:
        place = folder / name / str(seed)
        place.mkdir(parents=True)
        job = TrialJob(
            sweep=one, config=one.with_values({"train.seed": seed}).model_dump_json(), nproc=1, run=str(seed), parent=""
        )
        (place / "job.json").write_text(job.model_dump_json())
        words = [sys.executable, "-m", "tuning.training", str(place / "job.json")]
        with (place / "log.txt").open("w") as log:
            subprocess.run(words, check=True, env=environment, stderr=log)

    began = time.monotonic()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(train, range(one.trials)))
    return time.monotonic() - began


def overhead(folder: Path, rounds: int, trials: int, images: int) -> bool:
    """Print the ratio; whether it meets its bar."""
    space = Space(keys={"train.seed": Choice(options=tuple(range(trials)))})
    first = settings(folder, "warm", images // 10, Space(keys={"train.seed": Choice(options=(0, 1))}), 1, False)
    bare(folder, "warm", first)  # makes MLflow's database, fills the file cache
    ours, theirs = [], []
    for number in range(rounds):
        for name, run, found in (("bare", bare, theirs), ("swept", swept, ours)):
            place = f"{name}{number}"
            found.append(run(folder, place, settings(folder, place, images, space, trials, False)))
            print(f"{place}: {found[-1]:.1f} s", file=sys.stderr, flush=True)
    ratios = [plain / mine for plain, mine in zip(theirs, ours, strict=True)]
    ratio = statistics.median(ratios)
    print(f"{rounds} rounds of {trials} trials of {images} images at 32 px, {CORES} at once")
    print(f"sweep s  {[round(s, 1) for s in ours]}, {trials * 3600 / statistics.median(ours):.0f} trials an hour")
    print(f"bare s   {[round(s, 1) for s in theirs]}, {trials * 3600 / statistics.median(theirs):.0f} trials an hour")
    print(f"trials an hour, sweep / bare: {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}; bar {OVERHEAD_BAR})")
    return ratio >= OVERHEAD_BAR


def saving(folder: Path, images: int, seeds: tuple[int, ...]) -> bool:
    """Print what ASHA found and spent, by seed; whether each meets its bars."""
    keys = {
        "train.lr": Uniform(low=0.005, high=1.0, log=True),
        "train.weight_decay": Uniform(low=1e-5, high=1e-2, log=True),
        "train.warmup": Uniform(low=0.05, high=0.3),
        "augment.rotation": Uniform(low=0.0, high=45.0),
    }
    good = True
    for seed in seeds:
        found = {}
        for early in (False, True):
            name = f"asha{seed}{early}"
            one = settings(folder, name, images, Space(keys=keys), ASHA_TRIALS, early, seed)
            done = sweep(one, folder / name)
            best = max(trial.score or 0.0 for trial in done.trials if trial.state == "finished")
            found[early] = (best, sum(trial.percent for trial in done.trials) / 100)
        (full, whole), (short, part) = found[False], found[True]
        met = short >= full - POINTS and part <= COMPUTE_BAR * whole
        good = good and met
        print(
            f"seed {seed}: best {full:.4f} in {whole:.1f} trainings, with ASHA {short:.4f} in {part:.1f} "
            f"({part / whole:.0%}; bars {full - POINTS:.4f} and {COMPUTE_BAR:.0%}): {'met' if met else 'MISSED'}",
            flush=True,
        )
    return good


def main() -> int:
    """Print the figures; 1 when one misses its bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--asha", action="store_true", help="what ASHA saves, instead of what the sweep costs")
    parser.add_argument("--quick", action="store_true", help="one round, one seed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--images", type=int, default=8192)
    asked = parser.parse_args()
    rounds, seeds = (1, SEEDS[:1]) if asked.quick else (asked.rounds, SEEDS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = Store(str(folder / "objects"))
        if asked.asha:
            dataset(folder / "data", store, images=96, held_out=32)
            good = saving(folder, ASHA_IMAGES, seeds)
        else:
            dataset(folder / "data", store)
            good = overhead(folder, rounds, asked.trials, asked.images)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
