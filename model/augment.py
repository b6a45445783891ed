"""Tracks that might have been: mixup, and the residual swap.

Both make new training rows from old ones, on clipped logits, and draw all they need from a generator that is handed
in. Knows arrays only.
"""

import torch
from torch import Tensor

RIDGE = 100.0  # tracks' worth of doubt in what a label explains
NEAREST = 32  # tracks whose residuals a track may take
POOL = 32_768  # tracks among which the nearest are looked for: all pairs of a large catalogue would take an hour
CELLS_AT_ONCE = 2**25  # of the distances, to bound the memory
SMALLEST_DEVIATION = 1e-3  # of a logit
SMALLEST_DRAW = 1e-12  # of a Gamma: the share of two zeros is undefined


def mix(logits: Tensor, labels: Tensor, beta: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup of `[B, F]` and `[B, T]`: each row becomes a blend with another row, labels likewise."""
    other = torch.randperm(len(logits), generator=generator).to(logits.device)
    # Beta(b, b) from two Gammas, drawn with our own generator so that a seed says it all.
    draws = torch._standard_gamma(torch.full((2, len(logits), 1), beta), generator=generator).clamp_min(SMALLEST_DRAW)
    share = (draws[0] / draws.sum(dim=0)).to(logits.device)  # [B, 1]
    return torch.lerp(logits[other], logits, share), torch.lerp(labels[other], labels, share)


class ResidualSwap:
    """A track's logits are what its labels explain and a residual; another track's residual would do as well.

    A ridge regression from labels to logits tells the two apart. A track takes residuals only of tracks whose
    explained part is near its own, since noise depends on what is heard; and those of each class from another track,
    since the classes come from upstream networks that err apart (measured: residuals of two classes have canonical
    correlations of .27 at most).
    """

    def __init__(self, logits: Tensor, labels: Tensor, classes: list[list[int]]) -> None:
        """Learn the split from `logits` `[N, F]` and `labels` `[N, T]` of the training rows.

        `classes` are the columns of each class.
        """
        self.classes = [torch.tensor(columns, device=logits.device) for columns in classes]
        deviation = logits.std(dim=0, correction=0).clamp_min(SMALLEST_DEVIATION)
        standard = (logits - logits.mean(dim=0)) / deviation  # [N, F]
        centred = labels - labels.mean(dim=0)  # [N, T]
        gram = centred.T @ centred + RIDGE * torch.eye(centred.shape[1], device=centred.device)
        explained = centred @ torch.linalg.solve(gram, centred.T @ standard)  # [N, F]
        self.residuals = (standard - explained) * deviation  # [N, F]
        self.near = _nearest(explained)  # [N, NEAREST], rows of the residuals

    def __call__(self, logits: Tensor, rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """The training rows `rows` `[B]`, whose logits are `[B, F]`: a `share` of them with another residual."""
        swapped = (torch.rand(len(rows), 1, generator=generator) < share).to(rows.device)
        other = logits.clone()
        for columns in self.classes:
            which = torch.randint(self.near.shape[1], (len(rows),), generator=generator).to(rows.device)
            donor = self.near[rows, which]
            other[:, columns] += self.residuals[donor][:, columns] - self.residuals[rows][:, columns]
        return torch.where(swapped, other, logits)


def _nearest(points: Tensor) -> Tensor:
    """The rows of the nearest points `[N, NEAREST]` for each of `[N, F]`, itself not among them where there are others.

    Of a large catalogue only an even sample is looked through.
    """
    sample = torch.arange(0, len(points), max(-(-len(points) // POOL), 1), device=points.device)
    pool = points[sample]  # [P, F]
    squares = pool.square().sum(dim=1)  # [P]
    count = min(NEAREST, max(len(pool) - 1, 1))
    found = []
    for rows in torch.arange(len(points), device=points.device).split(max(CELLS_AT_ONCE // len(pool), 1)):
        distances = squares - 2 * points[rows] @ pool.T  # [R, P], less a constant of the row
        distances.masked_fill_(rows[:, None] == sample, torch.inf)
        found.append(sample[distances.topk(count, largest=False).indices])
    return torch.cat(found)
