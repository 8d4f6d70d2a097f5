"""The training loop, in the order in which it happens. It knows no images and no classes: those are the workload's.

Every process of the team runs `fit`. What is random follows from the seed, the epoch and the step, so a training that
was stopped anywhere goes on along the same curve. Started by `__main__.py`, prepared by `train.py`.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from components.train import checkpoint
from components.train.checkpoint import State
from components.train.feed import feed
from components.train.job import BEST, CHECKPOINT, Curves, EpochRow, Job, StepRow
from components.train.processes import Interruption, Team, settle, uses_bf16
from components.train.tracking import Tracker
from components.train.watch import Watcher
from core.dataset import Dataset
from core.errors import TemporaryError, UserError
from core.objects import Store
from core.progress import Progress
from workloads.configuration import TrainConfig
from workloads.contract import Source, load

CHECKPOINT_SHARE = 0.02
"""Of the time that checkpoints may take: short epochs share one (90 MB take 0.2 s, so one each 10 s). The first epoch
always leaves one."""
CURVE_POINTS = 1000
LOOK_EVERY = {"cpu": 1, "cuda": 10}
"""Steps between two looks at the loss and at SIGTERM: on a GPU each look waits for it."""


@dataclass(frozen=True)
class Plan:
    """How long a training is, and its learning rate at each step."""

    epochs: int
    steps: int
    """Of one epoch."""
    peak: float
    warmup: float

    @classmethod
    def of(cls, config: TrainConfig, source: Source) -> Self:
        """Enough epochs to look at `config.images` images; the rate is scaled to the batch."""
        wanted = math.ceil(config.images / source.rows)
        epochs = min(max(wanted, config.min_epochs), config.max_epochs)
        return cls(epochs, source.rows // source.batch, config.lr * source.batch / config.batch, config.warmup)

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.steps

    def rate(self, step: int) -> float:
        """Rises in a line over the warm-up, falls to zero along a cosine (Loshchilov & Hutter 2017)."""
        rise = max(1.0, self.warmup * self.total)
        if step < rise:
            return self.peak * (step + 1) / rise
        return self.peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (self.total - rise)))


class Training:
    """One training, from the first step or from a checkpoint to the last step."""

    def __init__(self, job: Job, team: Team, interruption: Interruption, tracker: Tracker | None) -> None:
        self.job, self.team, self.interruption, self.tracker = job, team, interruption, tracker
        self.workload = load(job.workload)
        self.config = self.workload.configuration(job.config)
        self.dataset = Dataset.read(Path(job.dataset))
        with team.one_first():
            opened = self.workload.loader.open_source(self.dataset, self.config, Store(job.store), Path(job.cache))
        self.source = opened
        self.plan = Plan.of(self.config.train, self.source)
        settle(team.device, self.config.train.deterministic)
        torch.manual_seed(self.config.train.seed)
        network = self.workload.model.build(self.config, self.dataset.info)
        self.network = network.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = sgd(self.network, self.config.train)
        path = job.folder / CHECKPOINT
        state = checkpoint.load(path, self.network, self.optimizer) if path.exists() else State()
        self.step = self.resumed_at = state.step
        self.epoch_loss, self.seconds = state.epoch_loss, state.seconds
        self.step_rows, self.epoch_rows = list(state.curves.steps), list(state.curves.epochs)
        self.best_epoch, self.best_score = state.best_epoch, state.best_score
        self.best_weights: dict[str, Tensor] = {}
        self.parallel = team.parallel(self._compiled(), whole=self.config.train.accumulate == 1)
        self.bf16 = uses_bf16(self.config.train.precision, team.device)
        self.watcher = Watcher(job.watch) if job.watch and team.leads else None

    def run(self) -> State:
        """Train to the end and return the final state; raises UserError when the loss is lost, TemporaryError when
        SIGTERM came (the same command goes on from there)."""
        self.began = time.monotonic()
        self.next_save = 0.0
        self.unseen: list[Tensor] = []
        self.looked = self.step
        self.progress = Progress("train", self.plan.total)
        self.progress.resume_at(self.step)
        self._tell()
        for epoch in range(self.step // self.plan.steps, self.plan.epochs):
            self.parallel.train()
            batches = self.source.training(epoch, self.step % self.plan.steps, self.team.rank, self.team.world)
            for images, targets in feed(batches, self.team.device):
                self._learn(images, targets)
                if self.step % LOOK_EVERY[self.team.device.type] == 0 or self.step % self.plan.steps == 0:
                    self._look()
            self._end(epoch)
        return self._state()

    def _learn(self, images: Tensor, targets: Tensor) -> None:
        """One step of the optimizer: the gradient of the whole share, gathered part by part."""
        torch.manual_seed((self.config.train.seed * self.plan.total + self.step) * self.team.world + self.team.rank)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        parts = min(self.config.train.accumulate, len(targets))
        for number, part in enumerate(zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True), 1):
            with self.team.gathering(self.parallel, last=number == parts):
                self.unseen.append(self._gradient(*part, share=len(part[1]) / len(targets)))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _gradient(self, images: Tensor, targets: Tensor, share: float) -> Tensor:
        """Add the gradient of a part of a step; returns its part of the loss."""
        with self._precision():
            loss = self.workload.model.loss(self.parallel(images), targets, self.config) * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _look(self) -> None:
        """What all processes together saw since the last look: the loss, and whether one was asked to stop."""
        asked = torch.tensor(float(self.interruption.asked))
        seen = self.team.sum({"loss": torch.stack(self.unseen).sum(), "asked": asked.to(self.team.device)})
        loss = seen["loss"] / self.team.world
        if not math.isfinite(loss):
            raise UserError(self._lost())
        self.epoch_loss += loss
        mean, self.unseen, self.looked = loss / (self.step - self.looked), [], self.step
        if self.step % math.ceil(self.plan.total / CURVE_POINTS) == 0:
            self.step_rows.append(StepRow(step=self.step, loss=mean, rate=self.plan.rate(self.step - 1)))
            self._track(self.step, {"loss": mean, "rate": self.step_rows[-1].rate})
        if self.team.leads:
            self.progress.update(self.step, f"epoch {self.step // self.plan.steps + 1}, loss {mean:.3f}")
        if seen["asked"]:
            self._save()
            raise TemporaryError(f"training was interrupted at step {self.step}; the same command goes on from there")

    def _end(self, epoch: int) -> None:
        """Measure an epoch, keep its weights if none was better, write a checkpoint when the last one is old."""
        validation = self._validate()
        row = EpochRow(
            epoch=epoch,
            step=self.step,
            loss=self.epoch_loss / self.plan.steps,
            validation=validation,
            seconds=self._seconds(),
        )
        self.epoch_rows.append(row)
        self.epoch_loss = 0.0
        self._track(self.step, {"epoch_loss": row.loss, **{f"validation_{k}": v for k, v in validation.items()}})
        score = validation.get("score")
        if score is None or self.best_score is None or score >= self.best_score:
            self.best_epoch, self.best_score = epoch, score
            if self.team.leads:
                self.best_weights = {name: t.detach().clone() for name, t in self.network.state_dict().items()}
        each = self.job.watch is not None and self.job.watch.checkpoints
        if each or epoch + 1 == self.plan.epochs or time.monotonic() > self.next_save:
            self._save()
        self._tell()

    def _tell(self) -> None:
        """Say to who watches what the epochs so far have given."""
        if self.watcher and self.epoch_rows:
            example = next(iter(self.source.selection(0, 1)), (None, None))[0]
            self.watcher.tell(len(self.epoch_rows), self.plan.epochs, self.best_score, self.network, example)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The workload's metrics over the rows that select; nothing when there are none."""
        self.network.eval()
        total = {"rows": torch.zeros((), dtype=torch.float64, device=self.team.device)}
        for images, targets in feed(self.source.selection(self.team.rank, self.team.world), self.team.device):
            with self._precision():
                outputs = self.network(images)
            found = self.workload.metrics.sums(outputs, targets) | {"rows": torch.tensor(len(targets))}
            total = {name: value + total.get(name, 0) for name, value in found.items()}
        sums = self.team.sum(total)
        rows = sums.pop("rows")
        return {name: value / rows for name, value in sums.items()}

    def _save(self) -> None:
        """Write the best weights and the checkpoint; the leader does, the others are at the same step."""
        if not self.team.leads:
            return
        began = time.monotonic()
        if self.best_weights:
            checkpoint.write_tensors(self.job.folder / BEST, self.best_weights)
            self.best_weights = {}
        checkpoint.save(self.job.folder / CHECKPOINT, self.network, self.optimizer, self._state())
        now = time.monotonic()
        self.next_save = now + (now - began) / CHECKPOINT_SHARE

    def _state(self) -> State:
        curves = Curves(steps=tuple(self.step_rows), epochs=tuple(self.epoch_rows))
        return State(
            step=self.step,
            epoch_loss=self.epoch_loss,
            curves=curves,
            best_epoch=self.best_epoch,
            best_score=self.best_score,
            seconds=self._seconds(),
        )

    def _compiled(self) -> nn.Module:
        """The network as it is called; its weights stay those of `network`."""
        network: nn.Module = self.network
        if self.config.train.compile and self.team.device.type == "cuda":
            network = torch.compile(network)  # type: ignore[assignment] # a module gives a module
        return network

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.bf16)

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self.began

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.tracker:
            self.tracker.metrics(step, values)

    def _lost(self) -> str:
        path = self.job.folder / CHECKPOINT
        kept = f"the last good checkpoint is {str(path)!r}" if path.exists() else "no checkpoint was written yet"
        return (
            f"the loss is not a number at step {self.step} (epoch {self.step // self.plan.steps + 1}); {kept}. "
            f"Lower train.lr ({self.config.train.lr:g})"
        )


def sgd(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """Nesterov momentum; weight decay for matrices and kernels only."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
