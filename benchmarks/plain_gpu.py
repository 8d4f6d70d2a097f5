"""The yardsticks of benchmarks/gpu.py: what one would write for one training on a GPU, without a platform.

`python -m benchmarks.plain_gpu IMAGES.npz EPOCHS BATCH loader|device [compile]` prints JSON lines: one an epoch,
`{"seconds", "accuracy"}`, and `{"images_per_second"}`. `loader`: a DataLoader whose workers augment. `device`: all
images and their augmentation on the GPU, as the speed runs of airbench do (Jordan 2024, arXiv 2404.00498).
"""

import json
import math
import os
import sys
import time

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader, Dataset

from workloads.pills.loader import augmented
from workloads.pills.recipes import AugmentConfig

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


class Images(Dataset):
    """One augmented image at a time, as a DataLoader wants them."""

    def __init__(self, images: np.ndarray, targets: np.ndarray) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        changes = np.random.default_rng().uniform(-1, 1, (1, 9))
        return torch.from_numpy(augmented(self.images[row : row + 1], changes, AugmentConfig())[0]), self.targets[row]


def loaded(images: np.ndarray, targets: np.ndarray, batch: int):
    """Epochs of batches from worker processes."""
    workers = max(1, len(os.sched_getaffinity(0)) - 2)
    source = DataLoader(
        Images(images, targets), batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=True,
        persistent_workers=True, prefetch_factor=4,
    )  # fmt: skip
    while True:
        yield ((x.to("cuda", non_blocking=True), y.to("cuda", non_blocking=True)) for x, y in source)


def on_device(images: np.ndarray, targets: np.ndarray, batch: int):
    """Epochs of batches that never leave the GPU: the same changes, drawn and made there."""
    pixels = torch.from_numpy(images).cuda().permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    classes, limits = torch.from_numpy(targets).cuda(), AugmentConfig()
    mean, std = MEAN.cuda(), STD.cuda()

    def change(rows: torch.Tensor) -> torch.Tensor:
        drawn = torch.rand(len(rows), 9, device="cuda") * 2 - 1
        angle, scale = drawn[:, 3] * math.radians(limits.rotation), 1 / (1 + limits.scale * drawn[:, 2])
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        shift = 2 * limits.shift * drawn[:, :2]
        theta = torch.stack([torch.stack([cos, sin, shift[:, 0]], 1), torch.stack([-sin, cos, shift[:, 1]], 1)], 1)
        grid = torch.nn.functional.affine_grid(theta, [len(rows), 3, *pixels.shape[2:]], align_corners=False)
        moved = torch.nn.functional.grid_sample(pixels[rows].float(), grid, padding_mode="border", align_corners=False)
        gain, lift = (
            1 + limits.contrast * drawn[:, 5],
            limits.brightness * drawn[:, 4, None] + limits.colour * drawn[:, 6:],
        )
        coloured = (moved / 255 - 0.5) * gain.view(-1, 1, 1, 1) + 0.5 + lift[:, :, None, None]
        return (coloured.clamp(0, 1) - mean) / std

    while True:
        order = torch.randperm(len(pixels), device="cuda")
        yield ((change(rows), classes[rows]) for rows in order.split(batch) if len(rows) == batch)


def main(path: str, epochs: int, batch: int, how: str, compiled: bool) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    data = np.load(path)
    images, targets = data["images"], data["targets"]
    val = ((torch.from_numpy(data["val_images"]).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD).cuda()
    val_targets = torch.from_numpy(data["val_targets"]).cuda()
    network = torchvision.models.resnet18(num_classes=int(targets.max()) + 1, zero_init_residual=True)
    network = network.cuda().to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 5e-4},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    peak = 0.2 * batch / 128
    optimizer = torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True, fused=True)
    called = torch.compile(network) if compiled else network
    steps, step, began = len(images) // batch, 0, time.monotonic()
    source = (loaded if how == "loader" else on_device)(images, targets, batch)
    for _ in range(epochs):
        network.train()
        for inputs, wanted in next(source):
            share = step / (steps * epochs)
            rate = share / 0.15 if share < 0.15 else 0.5 * (1 + math.cos(math.pi * (share - 0.15) / 0.85))
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            with torch.autocast("cuda", torch.bfloat16):
                outputs = called(inputs.contiguous(memory_format=torch.channels_last))
                loss = torch.nn.functional.cross_entropy(outputs.float(), wanted, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        network.eval()
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            right = [network(x).argmax(1) == y for x, y in zip(val.split(256), val_targets.split(256), strict=True)]
        accuracy = torch.cat(right).float().mean().item()
        print(json.dumps({"seconds": time.monotonic() - began, "accuracy": accuracy}), flush=True)
    print(json.dumps({"images_per_second": step * batch / (time.monotonic() - began)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], "compile" in sys.argv)
