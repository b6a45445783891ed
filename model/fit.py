"""One fit of one network: loss, steps, early stopping. Knows arrays and a configuration, no folds or thresholds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import TrainingConfig
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


def fit(
    network: Rescorer,
    logits: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    generator: torch.Generator,
    tick: Callable[[float], None],
    held: tuple[Tensor, Tensor] | None = None,
    stop_after: int | None = None,
) -> Fit:
    """Learn from clipped `logits` `[N, F]` and `labels` `[N, T]`; `tick(loss)` after each epoch.

    With `held` the weights of the best held-out epoch are kept; without, those of the last. `stop_after` ends
    early on the schedule of all epochs: a refit retraces what the folds found best.
    """
    optimizer = build_optimizer(network, config)
    steps = math.ceil(len(logits) / config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_curve(config, steps * config.epochs))
    average = Average(network, config.average) if config.average else None
    result, best_loss, best_weights = Fit(best_epoch=0), math.inf, None
    for epoch in range(1, (stop_after or config.epochs) + 1):
        loss = run_epoch(network, logits, labels, config, generator, optimizer, schedule, average)
        result.train_losses.append(loss)
        if average:
            average.swap()
        if held is not None:
            held_loss = mean_loss(network, *held, bf16=config.bf16)
            result.held_losses.append(held_loss)
            if held_loss < best_loss:
                best_loss, result.best_epoch = held_loss, epoch
                best_weights = {name: value.clone() for name, value in network.state_dict().items()}
        tick(result.held_losses[-1] if held is not None else loss)
        if held is not None and epoch - result.best_epoch >= config.patience:
            break
        if average and epoch < (stop_after or config.epochs):
            average.swap()
    if best_weights is not None:
        network.load_state_dict(best_weights)
    else:
        result.best_epoch = len(result.train_losses)
    network.eval()
    return result


def run_epoch(network, logits, labels, config, generator, optimizer, schedule, average) -> float:
    """One pass over all rows in random order; the mean loss."""
    network.train()
    order = torch.randperm(len(logits), generator=generator)
    total = 0.0
    for rows in order.split(config.batch):
        batch, targets = logits[rows], labels[rows]  # [B, F], [B, T]
        if config.mixup:
            batch, targets = mix(batch, targets, config.mixup, generator)
        with autocast(config.bf16):
            output = network.rescore(batch)
        loss = F.binary_cross_entropy_with_logits(output.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm, foreach=True)
        optimizer.step()
        schedule.step()
        if average:
            average.update()
        total += loss.item() * len(rows)
    return total / len(logits)


def mix(logits: Tensor, labels: Tensor, beta: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup: each row becomes a blend with another row, labels likewise."""
    other = torch.randperm(len(logits), generator=generator)
    # Beta(b, b) from two Gammas, drawn with our own generator so that a seed says it all.
    draws = torch._standard_gamma(torch.full((2, len(logits), 1), beta), generator=generator).clamp_min(1e-12)
    share = draws[0] / draws.sum(dim=0)  # [B, 1]
    return torch.lerp(logits[other], logits, share), torch.lerp(labels[other], labels, share)


def build_optimizer(network: Rescorer, config: TrainingConfig) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.dim() >= DECAYED_DIMENSIONS]
    others = [p for p in network.parameters() if p.dim() < DECAYED_DIMENSIONS]
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


def autocast(wanted: bool) -> torch.autocast:
    """bfloat16 on CPUs with matrix units for it; elsewhere it would only cost precision."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted and torch.cpu._is_amx_tile_supported())


@torch.inference_mode()
def predict(network: Rescorer, logits: Tensor, bf16: bool = False) -> Tensor:
    """Output logits `[N, T]` of clipped logits `[N, F]`, dropout off."""
    network.eval()
    with autocast(bf16):
        return torch.cat([network.rescore(rows).float() for rows in logits.split(SCORE_BATCH)])


def mean_loss(network: Rescorer, logits: Tensor, labels: Tensor, bf16: bool = False) -> float:
    return F.binary_cross_entropy_with_logits(predict(network, logits, bf16), labels).item()
