"""The sections that the run configuration of every workload has; `workloads/<name>/recipes.py` adds what is its own."""

from typing import Annotated, Literal

from pydantic import Field

from core.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

LEAST_BATCH, LEAST_STEPS = 8, 8
"""A batch norm needs a few rows to norm over; fewer steps in an epoch than this are too coarse for a schedule."""


class TrainConfig(Config):
    """How the network learns."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the weights, the order and the augmentation; the same seed gives the same curve on the same machine."""
    images: Count = 24_000
    """Augmented images to look at. Epochs = images / training rows, within the two limits below. On the 1,797 scans of
    load_digits this gives 0.99 in half a minute of two cores (AMD EPYC with AVX-512), a third of it 0.98."""
    min_epochs: Count = 8
    """Large data sets: fewer passes do not fit the last classes."""
    max_epochs: Count = 100
    """Small data sets: more passes only memorise."""
    batch: Count = 128
    """Images of one step over all processes together; at most an eighth of the training rows."""
    accumulate: Count = 1
    """Parts in which a process takes its share of a step, one after the other: less memory, the same gradient. Batch
    norms see the parts."""
    lr: Positive = 0.2
    """Peak learning rate of SGD for `batch` images; scaled linearly when the batch is smaller (Goyal et al. 2017)."""
    momentum: Share = 0.9
    """Nesterov."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Of matrices and kernels; norms and biases have none (He et al. 2019, "Bag of Tricks")."""
    warmup: Share = 0.15
    """Share of the steps over which the rate rises from zero; then it falls to zero along a cosine."""
    label_smoothing: Share = 0.1
    """Keeps the logits of the small sets from growing without end (Szegedy et al. 2016)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the hardware multiplies it (measured 1.9 x fp32 on a CPU with AVX512-BF16), else fp32."""
    compile: bool = False
    """On a GPU, torch.compile. A training of half a minute took twice as long with it (H100); longer ones were not
    measured."""
    deterministic: bool = False
    """On a GPU, only kernels that give the same bits for the same seed; a CPU's do in any case."""

    def batch_of(self, rows: int) -> int:
        """Rows of one step when `rows` train: fewer than `batch` where an epoch would have under eight steps."""
        return min(self.batch, max(LEAST_BATCH, rows // LEAST_STEPS))


class ExportConfig(Config):
    """The network as it serves."""

    opset: int = 18
    """ONNX operator set: the newest that both onnxruntime and OpenVINO of the lock run whole."""
    int8: bool = True
    """Try int8; it is used only where it agrees with fp32."""
    min_agreement: Share = 0.995
    """Share of the validation rows on which int8 and fp32 must give the same label."""
    calibration_rows: Count = 100
    """Training images over which the ranges of int8 are found: 6 s of one core; 300 gave the same agreement."""
    calibration_share: Share = 0.5
    """Share of the validation groups that fit temperature, abstention and the drift reference, and select nothing."""
    answered_accuracy: Share = 0.95
    """Accuracy that the answers above the abstention threshold should have; the target of the ladder (DESIGN.md)."""


class RunConfig(Config):
    """One complete, frozen run configuration."""

    workload: str
    recipe: str
    """The recipe it was made from; its values may have been changed since."""
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
