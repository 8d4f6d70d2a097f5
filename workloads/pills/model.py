"""The networks: a backbone of torchvision, its mean over the image, one linear layer.

All architectures end alike (global average, then linear), so that each has an embedding and a class activation map
without a second pass. Training calls `build` and `loss`; export.py wraps the same module for serving.
"""

import pickle  # nosec B403 # for the name of its error
from collections import OrderedDict
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from core.dataset import DatasetInfo
from core.errors import UserError
from workloads.pills.recipes import ModelConfig, PillsConfig

PUBLISHED = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v3": "mobilenet_v3_large",
    "vit_b16": "vit_b_16",
}
"""Our name of an architecture -> torchvision's."""
PATCH = 16  # pixels of ViT-B/16


class Network(nn.Module):
    """Images float32 [n, 3, s, s] -> logits [n, classes]."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.backbone(images).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(embedding))
        return logits


class OnePixel(nn.Conv2d):
    """A 3x3 convolution of a map of one pixel: what is not the middle of its kernel only meets padding.

    The middle alone gives the same result and gradient; with all nine, the library spends half of a ResNet's backward
    pass at 32 px on them (0.33 s of 0.40 s a batch of 64 with AVX2, 0.17 s of 0.24 s without).
    """

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Self:
        """The same layer with the same weights."""
        made = cls(layer.in_channels, layer.out_channels, 3, padding=1, bias=False, device="meta")
        made.weight = layer.weight
        return made

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return nn.functional.linear(images.flatten(1), self.weight[:, :, 1, 1])[:, :, None, None]
        return super().forward(images)


class Tokens(nn.Module):
    """A vision transformer as a backbone: [n, 3, s, s] -> its patch tokens as a map [n, 768, s / 16, s / 16].

    The mean over the patches replaces the class token, as in Beyer et al. 2022 (arXiv 2205.01580).
    """

    def __init__(self, transformer: torchvision.models.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = transformer.conv_proj
        self.encoder = transformer.encoder
        self.class_token = transformer.class_token

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.conv_proj(images)
        rows, width, height, length = patches.shape
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(rows, -1, -1), tokens], dim=1)
        encoded: Tensor = self.encoder(tokens)[:, 1:]
        return encoded.transpose(1, 2).reshape(rows, width, height, length)


def build(config: PillsConfig, info: DatasetInfo, published: bool = True) -> Network:
    """The network for the classes of `info`, with the weights that `config` names, unless `published` is false.

    Raises UserError when they cannot be had.
    """
    model, side = config.model, config.side(info)
    backbone, width = _backbone(model, side)
    if published and model.weights != "none":
        _load(backbone, _published(model), model, side)
    return Network(backbone, width, len(info.classes), model.dropout)


def loss(outputs: Tensor, targets: Tensor, config: PillsConfig) -> Tensor:
    """Cross-entropy with smoothed labels, a scalar."""
    return nn.functional.cross_entropy(outputs.float(), targets, label_smoothing=config.train.label_smoothing)


def _backbone(model: ModelConfig, side: int) -> tuple[nn.Module, int]:
    """The module up to the last map, and the channels of that map."""
    make = getattr(torchvision.models, PUBLISHED[model.architecture])
    if model.architecture == "vit_b16":
        if side % PATCH:
            raise UserError(
                f"image_size = {side}: vit_b16 needs a multiple of {PATCH}, for example {side // 16 * 16 + 16}"
            )
        return Tokens(make(image_size=side)), 768
    if model.architecture == "mobilenet_v3":
        return make().features, 960
    resnet = make(zero_init_residual=True)  # each block starts as the identity (Goyal et al. 2017, 5.1)
    if side <= 8 * model.stem_stride:
        _shorten(resnet.layer4)
    width: int = resnet.fc.in_features
    layers = OrderedDict((name, layer) for name, layer in resnet.named_children() if name not in ("avgpool", "fc"))
    if model.stem_stride != 4:
        layers["conv1"] = nn.Conv2d(3, 64, 3, stride=model.stem_stride, padding=1, bias=False)
        nn.init.kaiming_normal_(layers["conv1"].weight, mode="fan_out", nonlinearity="relu")
        del layers["maxpool"]
    return nn.Sequential(layers), width


def _shorten(stage: nn.Sequential) -> None:
    """Let the convolutions of a stage whose maps have one pixel know that."""
    for block in stage:
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Conv2d) and (layer.kernel_size, layer.stride) == ((3, 3), (1, 1)):
                setattr(block, name, OnePixel.of(layer))


def _published(model: ModelConfig) -> dict[str, Any]:
    """The tensors of `weights`, by torchvision's names or by those of our own `model.safetensors`."""
    if model.weights == "torchvision":
        return _download(PUBLISHED[model.architecture])
    path = Path(model.weights).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights = {model.weights!r}: no such file; give a path, 'torchvision' or 'none'")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:  # torchvision publishes .pth only; weights_only reads tensors and runs no code
        tensors: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"model.weights = {model.weights!r} holds more than tensors; convert it to safetensors"
        ) from error
    return tensors


def _download(name: str) -> dict[str, Any]:
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    try:
        tensors: dict[str, Any] = weights.get_state_dict(check_hash=True)
    except URLError as error:
        raise UserError(
            f"model.weights = 'torchvision': {weights.url} cannot be reached ({error.reason}). Fetch it on a machine "
            "with a network and give its path as model.weights, or train from scratch with model.weights=none"
        ) from error
    return tensors


def _load(backbone: nn.Module, tensors: dict[str, Any], model: ModelConfig, side: int) -> None:
    """Put the tensors of the backbone into it; the last layer is always new."""
    plain = OrderedDict((name.removeprefix("backbone.").removeprefix("features."), t) for name, t in tensors.items())
    if "encoder.pos_embedding" in plain:
        plain = torchvision.models.vision_transformer.interpolate_embeddings(side, PATCH, plain)
    known = {name: t for name, t in backbone.state_dict().items() if not name.endswith("num_batches_tracked")}
    missing = [name for name, tensor in known.items() if name not in plain or plain[name].shape != tensor.shape]
    if missing:
        raise UserError(
            f"model.weights = {model.weights!r}: {len(missing)} of {len(known)} tensors of {model.architecture} are "
            f"not in it, or have another shape: {', '.join(missing[:3])}"
        )
    backbone.load_state_dict({name: plain[name] for name in known}, strict=False)
