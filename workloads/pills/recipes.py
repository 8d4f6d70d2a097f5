"""The run configurations that are known to work; each function returns one, complete. The first is the default."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from core.config import Config
from core.dataset import DatasetInfo
from workloads.configuration import RunConfig, Share, TrainConfig

Architecture = Literal["resnet18", "resnet50", "mobilenet_v3", "vit_b16"]


class ModelConfig(Config):
    """The network."""

    architecture: Architecture = "resnet18"
    weights: str = "none"
    """`none`, `torchvision` (its ImageNet weights, fetched once), or the path of a .safetensors or torchvision file."""
    stem_stride: Literal[1, 2, 4] = 4
    """How much the first layers shrink a ResNet's image: 4 is the published stem; 1 and 2 are a 3x3 convolution
    without pooling, finer and 4 to 14 times slower. Only 4 takes published weights."""
    dropout: Share = 0.0
    """Before the last layer."""


class AugmentConfig(Config):
    """Random changes of each training image; none of them may change a label, whatever the images show.

    So there are no flips and no crops that lose a side: a mirrored 2 is no digit, and a halved pill is another pill.
    """

    shift: Share = 0.08
    """Of the side, in each direction."""
    scale: Share = 0.10
    """Larger or smaller by up to this share."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 12.0
    """Degrees, either way: a 6 stays a 6."""
    brightness: Share = 0.15
    """Of the full range, up or down."""
    contrast: Share = 0.20
    """Around the image's mean."""
    colour: Share = 0.05
    """Of the full range, each channel by itself: a warmer lamp, not another dye."""


class PillsConfig(RunConfig):
    """One complete run configuration of image classification."""

    workload: Literal["pills"] = "pills"
    image_size: Annotated[int, Field(ge=16, le=512)] | None = None
    """Side of the network's input, pixels; none: from the profile of the images (32 to 96)."""
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()

    def side(self, info: DatasetInfo) -> int:
        """Pixels of one side of the network's input on this dataset."""
        return self.image_size or info.image_size


Settings = PillsConfig


def resnet18() -> PillsConfig:
    """The default: learns a folder of a few thousand small images from scratch in minutes of two cores."""
    return PillsConfig(recipe="resnet18")


def demo() -> PillsConfig:
    """The default at 64 px and half the images: what a demonstration or a test on two cores can wait for."""
    return PillsConfig(recipe="demo", image_size=64, train=TrainConfig(images=12_000))


def resnet50() -> PillsConfig:
    """Larger (25 million weights): for weights from torchvision, or a GPU."""
    return PillsConfig(recipe="resnet50", model=ModelConfig(architecture="resnet50"))


def mobilenet_v3() -> PillsConfig:
    """MobileNetV3-Large: the fewest operations where serving must be cheap; learns slower from scratch."""
    model = ModelConfig(architecture="mobilenet_v3", dropout=0.2)
    return PillsConfig(recipe="mobilenet_v3", model=model, train=TrainConfig(weight_decay=1e-4))


def vit_b16() -> PillsConfig:
    """ViT-B/16 at 224 px (86 million weights): for weights from torchvision and a GPU; it has no use from scratch."""
    train = TrainConfig(lr=0.03, weight_decay=1e-4, batch=64)
    return PillsConfig(recipe="vit_b16", image_size=224, model=ModelConfig(architecture="vit_b16"), train=train)


def recipes() -> dict[str, Callable[[], PillsConfig]]:
    """Every recipe by its name, the default first."""
    return {function.__name__: function for function in (resnet18, demo, resnet50, mobilenet_v3, vit_b16)}
