"""One fit of one network: loss, steps, early stopping, and all that is needed to go on after a break.

Knows arrays and a configuration, no folds or thresholds. A fit that is broken off after any epoch and taken up again
from what `Kept` holds ends with the same weights, bit for bit, as one that ran through.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.augment import ResidualSwap, mix
from model.config import TrainingConfig
from model.device import autocast
from model.network import Rescorer

SCORE_BATCH = 4096  # rows per forward pass when nothing is learnt
DECAYED_DIMENSIONS = 2  # weight decay is for matrices, not for biases, norms and per-tag gains

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass
class Fit:
    """What one fit came to: the epoch whose weights were kept, and the losses of each epoch."""

    best_epoch: int
    train_losses: list[float] = field(default_factory=list)
    held_losses: list[float] = field(default_factory=list)


class Kept(Protocol):
    """Where a running fit is kept, should it be broken off: tensors by name, and plain JSON values."""

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None: ...

    def write(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None: ...

    def due(self) -> bool:
        """Whether the last writing is long enough ago."""
        ...


class Average:
    """An exponential moving average of the weights; early steps count as the plain mean of what was seen."""

    def __init__(self, network: Rescorer, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.live: list[Tensor] = list(network.parameters())
        self.mean = [parameter.detach().clone() for parameter in self.live]

    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9.0))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, self.live, 1.0 - decay)

    def swap(self) -> None:
        """Exchange live and mean weights; twice is nothing."""
        with torch.no_grad():
            for live, mean in zip(self.live, self.mean, strict=True):
                kept = live.clone()
                live.copy_(mean)
                mean.copy_(kept)


class Fitting:
    """A fit under way: network, optimizer, averages and random states, one `epoch` after another."""

    def __init__(
        self, network: Rescorer, logits: Tensor, labels: Tensor, config: TrainingConfig, generator: torch.Generator
    ) -> None:
        self.network, self.config, self.generator = network, config, generator
        self.logits, self.labels = logits, labels  # [N, F], [N, T]
        self.optimizer = build_optimizer(network, config)
        self.steps = 0
        self.curve = learning_rate_curve(config, math.ceil(len(logits) / config.batch) * config.epochs)
        self.average = Average(network, config.average) if config.average else None
        self.swap = ResidualSwap(logits, labels, network.classes) if config.swap else None
        self.result, self.best_loss = Fit(best_epoch=0), math.inf
        self.best_weights: dict[str, Tensor] = {}

    def epoch(self) -> float:
        """One pass over all rows in random order; the mean loss."""
        self.network.train()
        order = torch.randperm(len(self.logits), generator=self.generator).to(self.logits.device)
        total = torch.zeros((), device=self.logits.device)
        for rows in order.split(self.config.batch):
            total += self._step(rows) * len(rows)
        return total.item() / len(self.logits)

    def _step(self, rows: Tensor) -> Tensor:
        config = self.config
        batch, targets = self.logits[rows], self.labels[rows]  # [B, F], [B, T]
        if self.swap:
            batch = self.swap(batch, rows, config.swap, self.generator)
        if config.mixup:
            batch, targets = mix(batch, targets, config.mixup, self.generator)
        with autocast(batch.device, config.bf16):
            output = self.network.rescore_each(batch)  # [M, B, T]
        loss = F.binary_cross_entropy_with_logits(output.float(), targets.expand_as(output))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self.curve(self.steps)
        self.optimizer.step()
        self.steps += 1
        if self.average:
            self.average.update()
        return loss.detach()

    def look(self, held: tuple[Tensor, Tensor]) -> float:
        """The held-out loss of the averaged weights, which are kept where it is the best so far."""
        if self.average:
            self.average.swap()
        loss = mean_loss(self.network, *held, bf16=self.config.bf16)
        self.result.held_losses.append(loss)
        if loss < self.best_loss:
            self.best_loss, self.result.best_epoch = loss, len(self.result.held_losses)
            self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        if self.average:
            self.average.swap()
        return loss

    def finish(self) -> Fit:
        """Put the weights that are kept into the network: of the best held-out epoch, or the last averaged ones."""
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        else:
            self.result.best_epoch = len(self.result.train_losses)
            if self.average:
                self.average.swap()
        self.network.eval()
        return self.result

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that changes from epoch to epoch."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_weights.items()}
        for index, mean in enumerate(self.average.mean if self.average else []):
            tensors[f"mean.{index}"] = mean
        for index, parameter in enumerate(self.network.parameters()):
            tensors |= {f"optimizer.{index}.{name}": v for name, v in self.optimizer.state[parameter].items()}
        tensors["random"], tensors["random.generator"] = torch.get_rng_state(), self.generator.get_state()
        if self.logits.is_cuda:
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.logits.device)
        about = {"steps": self.steps, "fit": asdict(self.result)}
        return tensors, about | ({"best_loss": self.best_loss} if self.best_weights else {})

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Take up a `state`."""
        self.network.load_state_dict(_under("network.", tensors))
        self.best_weights = _under("best.", tensors)
        if self.average:
            self.average.steps = about["steps"]
            for index, mean in enumerate(self.average.mean):
                mean.copy_(tensors[f"mean.{index}"])
        for index, parameter in enumerate(self.network.parameters()):
            kept = _under(f"optimizer.{index}.", tensors)
            self.optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in kept.items()}
        torch.set_rng_state(tensors["random"])
        self.generator.set_state(tensors["random.generator"])
        if self.logits.is_cuda:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.logits.device)
        self.steps, self.result = about["steps"], Fit(**about["fit"])
        self.best_loss = about.get("best_loss", math.inf)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def fit(
    network: Rescorer,
    logits: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    generator: torch.Generator,
    tick: Callable[[float], None],
    held: tuple[Tensor, Tensor] | None = None,
    stop_after: int | None = None,
    kept: Kept | None = None,
) -> Fit:
    """Learn from clipped `logits` `[N, F]` and `labels` `[N, T]`; `tick(loss)` after each epoch.

    With `held` the weights of the best held-out epoch are kept; without, those of the last. `stop_after` ends
    early on the schedule of all epochs: a refit retraces what the folds found best. With `kept` a fit that was
    broken off goes on where it was, with the global random state of then; epochs of before are not ticked again.
    """
    run = Fitting(network, logits, labels, config, generator)
    broken_off = kept.read() if kept else None
    if broken_off:
        run.restore(*broken_off)
    while len(run.result.train_losses) < (stop_after or config.epochs) and not _stalled(run.result, config.patience):
        loss = run.epoch()
        run.result.train_losses.append(loss)
        if held is not None:
            loss = run.look(held)
        if kept and kept.due():
            kept.write(*run.state())
        tick(loss)
    return run.finish()


def _stalled(result: Fit, patience: int) -> bool:
    return len(result.held_losses) - result.best_epoch >= patience if result.held_losses else False


def build_optimizer(network: Rescorer, config: TrainingConfig) -> torch.optim.Optimizer:
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in network.named_parameters():
        decayed = parameter.dim() >= DECAYED_DIMENSIONS and not name.endswith("bias")
        (matrices if decayed else others).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate_curve(config: TrainingConfig, steps: int) -> Callable[[int], float]:
    """Linear warm-up, then a cosine to zero (or constant)."""
    warmup = max(int(config.warmup * steps), 1) if config.warmup else 0

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if not config.cosine:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))

    return factor


@torch.inference_mode()
def predict(network: Rescorer, logits: Tensor, bf16: bool = False) -> Tensor:
    """Output logits `[N, T]` of clipped logits `[N, F]`, dropout off."""
    network.eval()
    with autocast(logits.device, bf16):
        return torch.cat([network.rescore(rows).float() for rows in logits.split(SCORE_BATCH)])


def mean_loss(network: Rescorer, logits: Tensor, labels: Tensor, bf16: bool = False) -> float:
    return F.binary_cross_entropy_with_logits(predict(network, logits, bf16), labels).item()
