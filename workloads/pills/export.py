"""The network as it serves: one pass gives the answer, the embedding that drift is watched on, and where it looked."""

from pathlib import Path

from torch import Tensor, nn

from workloads.pills import features, preprocess
from workloads.pills.model import Network

SOURCES = (Path(preprocess.__file__), Path(features.__file__))
"""Python files that are copied beside the network: they run in the server."""


class Served(nn.Module):
    """`images` float32 [n, 3, s, s] -> `logits` [n, classes], `embedding` [n, d], `activation` [n, h, w] in 0..1.

    The activation is the class activation map of the likeliest label (Zhou et al. 2016, arXiv 1512.04150), its largest
    value scaled to 1 (T10). It is exact for every architecture here, because all end in a mean and a linear layer.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps: Tensor = self.network.backbone(images)
        embedding = maps.mean(dim=(2, 3))
        logits: Tensor = self.network.head(embedding)
        weights = self.network.head.weight[logits.argmax(dim=1)]
        evidence = (maps * weights[:, :, None, None]).sum(dim=1).relu()
        peak = evidence.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        return logits, embedding, evidence / peak


def served(network: Network) -> Served:
    """The trained network with all that the server answers."""
    return Served(network).eval()
