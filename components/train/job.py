"""What a training starts from and what it leaves: the files that its processes and the next steps read."""

from pathlib import Path

from core.config import Config

MODEL, CONFIG, CURVES, RESULT = "model.safetensors", "config.json", "curves.json", "train.json"
"""The files of a finished training."""
CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
"""The files of an unfinished one, in its working folder: everything, and the weights of the best epoch."""


class Tracking(Config):
    """Where MLflow keeps the run."""

    uri: str
    """For example `sqlite:///home/mlflow.db`, or the address of a server."""
    experiment: str
    run: str
    """Name of the run: the pipeline's run id."""
    parent: str = ""
    """Id of the MLflow run that this one belongs to: a sweep's."""


class Watch(Config):
    """Who follows a training from outside, a sweep, is told of each epoch."""

    file: str
    """Gets an EpochReport as a JSON line after each epoch; an attempt that starts again repeats epochs."""
    checkpoints: bool = False
    """A checkpoint after each epoch, for others to go on from."""


class Job(Config):
    """Everything a training process is told: one JSON file, the only argument of `python -m components.train`."""

    config: str
    """The run configuration, JSON."""
    workload: str
    dataset: str
    """Folder of the dataset."""
    store: str
    """URI of the object store."""
    work: str
    """Folder for what an interrupted training goes on from; belongs to this configuration and dataset alone."""
    cache: str
    """Folder for decoded images."""
    out: str
    code: str
    """Git commit of the code that started it (core/lineage.py)."""
    environment: str
    """Digest of what was installed there."""
    tracking: Tracking | None = None
    watch: Watch | None = None

    @property
    def folder(self) -> Path:
        """The working folder."""
        return Path(self.work)


class StepRow(Config):
    """One training step."""

    step: int
    loss: float
    rate: float
    """Learning rate."""


class EpochRow(Config):
    """One epoch."""

    epoch: int
    step: int
    """Steps done at its end."""
    loss: float
    """Mean over its training steps, with augmentation and label smoothing."""
    validation: dict[str, float]
    """Means over the rows that select; `score` decides which epoch is kept. Empty when there are none."""
    seconds: float


class EpochReport(Config):
    """What a watched training says of itself after an epoch."""

    epoch: int
    """Epochs done."""
    epochs: int
    """Of the whole training."""
    score: float | None
    """The best so far, which is what the training would leave now."""
    latency_ms: float | None
    """Of the network (components/train/watch.py); none when no row selects."""
    network: str
    """Names its layers and its input: equal for networks that differ in weights alone."""


class Curves(Config):
    """How a training went; `curves.json`."""

    steps: tuple[StepRow, ...] = ()
    """At most about a thousand, evenly spaced."""
    epochs: tuple[EpochRow, ...] = ()


class TrainResult(Config):
    """`train.json`: the end of a training."""

    best_epoch: int
    """The epoch whose weights were kept: the best score on the selection rows, the later one of equals."""
    score: float | None
    """Its score; none when no row selects."""
    epochs: int
    steps: int
    batch: int
    processes: int
    device: str
    precision: str
    seconds: float
    """In the training loop, validation included, over all attempts."""
    images_per_second: float
    """Training images over the same seconds."""
    resumed_at: int
    """Steps that an interrupted attempt had done; 0 when there was none."""
    dataset: str
    code: str
    environment: str
    mlflow_run: str = ""
