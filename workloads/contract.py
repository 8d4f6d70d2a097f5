"""What a workload is: eight modules in one folder of `workloads/`, found by the folder's name.

The steps of a run (components/) know a workload only through this file, so a further workload is one further folder.
Its modules are imported when they are used: reading a recipe does not start torch.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from core.errors import UserError, nearest
from workloads.configuration import RunConfig

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from core.dataset import Dataset, DatasetInfo, Sample
    from core.objects import Store

    Images = Iterator[NDArray[np.uint8]]
    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]
    """Inputs float32 [n, ...] and targets [n]."""

FOLDER = Path(__file__).parent


class Recipes(Protocol):
    """`recipes.py`: complete run configurations."""

    @property
    def Settings(self) -> type[RunConfig]:  # noqa: N802 - a class
        """The class of the configurations."""

    def recipes(self) -> dict[str, Callable[[], RunConfig]]:
        """Every recipe by its name, the default first."""


class Preprocess(Protocol):
    """`preprocess.py`: from the bytes of one input to the network's tensor; copied into every release."""

    def decode(self, content: bytes, size: int) -> "NDArray[np.uint8]":
        """uint8 [size, size, 3]."""

    def normalise(self, batch: "NDArray[np.uint8]") -> "NDArray[np.float32]":
        """uint8 [n, s, s, 3] -> float32 [n, 3, s, s]."""


class Features(Protocol):
    """`features.py`: numbers that describe one input without a network."""

    @property
    def FEATURE_NAMES(self) -> tuple[str, ...]:  # noqa: N802 - a constant
        """Of `statistics`, in order."""

    def statistics(self, image: "NDArray[np.uint8]") -> "NDArray[np.float32]":
        """float32 [k]."""


class Source(Protocol):
    """The samples of one dataset, decoded, in batches: a function of the arguments and the seed alone."""

    @property
    def rows(self) -> int:
        """Training rows."""

    @property
    def batch(self) -> int:
        """Rows of one training step over all processes."""

    def training(self, epoch: int, first: int, rank: int, world: int) -> "Batches":
        """This process's share of each batch of an epoch, from step `first` on; every process gets equal shares.

        A batch may be overwritten when the next but one is asked for.
        """

    def selection(self, rank: int, world: int) -> "Batches":
        """This process's share of the rows that select the best epoch, not augmented."""


class Loader(Protocol):
    """`loader.py`: the torch side of the data."""

    def open_source(self, dataset: "Dataset", config: Any, store: "Store", cache: Path) -> Source:
        """The training data, decoded once into `cache`; opening it again is immediate."""

    def images(self, samples: "Iterable[Sample]", config: Any, info: "DatasetInfo", store: "Store") -> "Images":
        """The samples as the server would decode them: uint8 [n, s, s, 3], at most 64 at a time, in order."""

    def parts(self, samples: "Iterable[Sample]", share: float) -> "tuple[list[Sample], list[Sample]]":
        """(selection, calibration): the validation samples in two by whole groups, `share` of the rows second."""


class Model(Protocol):
    """`model.py`: the network and its loss."""

    def build(self, config: Any, info: "DatasetInfo", published: bool = True) -> "torch.nn.Module":
        """The network before training, its random weights by torch's global seed.

        Weights that the configuration names are put in, unless `published` is false: others will be.
        """

    def loss(self, outputs: "torch.Tensor", targets: "torch.Tensor", config: Any) -> "torch.Tensor":
        """What training minimises, a scalar."""


class Interval(Protocol):
    """A value with its 95 % interval."""

    @property
    def value(self) -> float:
        """Of all rows."""

    @property
    def low(self) -> float:
        """2.5 % of the draws are lower."""

    @property
    def high(self) -> float:
        """2.5 % of the draws are higher."""


class Metrics(Protocol):
    """`metrics.py`: what is measured."""

    def sums(self, outputs: "torch.Tensor", targets: "torch.Tensor") -> "dict[str, torch.Tensor]":
        """Sums over a batch; divided by the rows of all batches they are the validation metrics. `score` selects."""

    def softmax(self, logits: "Floats", temperature: float = 1.0) -> "Floats":
        """Probabilities [n, classes]."""

    def ranks(self, scores: "Floats", targets: "Labels") -> "Labels":
        """The place of the right label of each row, 1 for the highest score."""

    def macro_auc(self, scores: "Floats", targets: "Labels") -> float:
        """Mean area under one-against-rest ROC; NaN where there is none."""

    def confusion(self, predicted: "Labels", targets: "Labels", classes: int) -> "Labels":
        """int64 [classes, classes]: rows are true labels."""

    def per_class(self, table: "Labels") -> "tuple[Floats, Floats, Floats]":
        """Precision, recall and F1 of each class."""

    def reliability(self, confidence: "Floats", right: "NDArray[np.bool_]") -> "tuple[Floats, Floats, Labels]":
        """Mean confidence, accuracy and rows of each bin of the confidence."""

    def calibration_error(self, confidence: "Floats", right: "NDArray[np.bool_]") -> float:
        """Expected calibration error."""

    def bootstrap(self, values: "Floats", groups: "Labels") -> "Interval":
        """Mean with its 95 % interval, by drawing whole groups."""


class Export(Protocol):
    """`export.py`: the network as the server runs it."""

    SOURCES: tuple[Path, ...]
    """Python files that serve beside the network."""

    def served(self, network: "torch.nn.Module") -> "torch.nn.Module":
        """A module from `images` to the tuple (`logits`, `embedding`, `activation`)."""


class Workload:
    """One workload, by its name; each attribute is a module of its folder, imported on first use."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"workloads.{self.name}.{name}")

    @cached_property
    def recipes(self) -> Recipes:
        """Run configurations."""
        return cast(Recipes, self._module("recipes"))

    @cached_property
    def data(self) -> Any:
        """What a folder or manifest of the user becomes."""
        return self._module("data")

    @cached_property
    def preprocess(self) -> Preprocess:
        """Bytes to tensor, in training and serving."""
        return cast(Preprocess, self._module("preprocess"))

    @cached_property
    def features(self) -> Features:
        """Numbers that describe one input without a network."""
        return cast(Features, self._module("features"))

    @cached_property
    def loader(self) -> Loader:
        """Batches for training."""
        return cast(Loader, self._module("loader"))

    @cached_property
    def model(self) -> Model:
        """The network."""
        return cast(Model, self._module("model"))

    @cached_property
    def metrics(self) -> Metrics:
        """What is measured."""
        return cast(Metrics, self._module("metrics"))

    @cached_property
    def export(self) -> Export:
        """The network as it serves."""
        return cast(Export, self._module("export"))

    @property
    def camera(self) -> Any:
        """`camera.py`, where there is one: `corrupt(image, kind, level)` gives what a broken camera would."""
        return self._module("camera")

    def configuration(self, text: str) -> RunConfig:
        """The run configuration in a JSON text; raises UserError for unknown keys and impossible values."""
        return self.recipes.Settings.from_json(text, f"configuration of {self.name!r}")


def workloads() -> list[str]:
    """The names of all workloads, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob("*/recipes.py"))


def load(name: str) -> Workload:
    """The workload called `name`; raises UserError with the nearest name when there is none."""
    if name not in workloads():
        raise UserError(f"unknown workload {name!r}; {nearest(name, workloads())}")
    return Workload(name)
