"""The yardstick of benchmarks/train.py: what one would write for one training, without a platform, in 60 lines.

Same images, network, augmentation, schedule and precision; no checkpoint, no tracking, no resume, no second process.
`python -m benchmarks.plain_train IMAGES.npz EPOCHS BATCH` prints `{"loop_s", "images_per_second", "accuracy"}`.
"""

import json
import math
import sys
import time

import numpy as np
import torch
import torchvision

from workloads.pills.loader import augmented
from workloads.pills.preprocess import normalise
from workloads.pills.recipes import AugmentConfig


def main(path: str, epochs: int, batch: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = np.load(path)
    images, targets = data["images"], torch.from_numpy(data["targets"])
    val_images, val_targets = torch.from_numpy(normalise(data["val_images"])), torch.from_numpy(data["val_targets"])
    network = torchvision.models.resnet18(num_classes=int(targets.max()) + 1, zero_init_residual=True)
    network = network.to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 5e-4},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True, fused=True)
    bf16 = "avx512_bf16" in open("/proc/cpuinfo").read()  # noqa: SIM115, PTH123 - a script
    steps, step, began, accuracy = len(images) // batch, 0, time.monotonic(), 0.0
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        network.train()
        order = rng.permutation(len(images))
        for start in range(0, steps * batch, batch):
            rows = order[start : start + batch]
            share = step / (steps * epochs)
            rate = share / 0.15 if share < 0.15 else 0.5 * (1 + math.cos(math.pi * (share - 0.15) / 0.85))
            for group in optimizer.param_groups:
                group["lr"] = 0.2 * batch / 128 * rate
            moved = augmented(images[rows], rng.uniform(-1, 1, (len(rows), 9)), AugmentConfig())
            inputs = torch.from_numpy(moved).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                outputs = network(inputs)
                loss = torch.nn.functional.cross_entropy(outputs.float(), targets[rows], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            right = [(network(x).argmax(1) == y) for x, y in zip(val_images.split(64), val_targets.split(64))]  # noqa: B905
        accuracy = torch.cat(right).float().mean().item()
    seconds = time.monotonic() - began
    torch.save(network.state_dict(), path + ".pt")
    print(json.dumps({"loop_s": seconds, "images_per_second": step * batch / seconds, "accuracy": accuracy}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
