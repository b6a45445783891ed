"""The layers that the networks are made of.

They know numbers and shapes, nothing of vocabularies or configurations. Shapes: B tracks, F inputs, T tags, K tokens,
W token width, H attention heads, U reservoir units, M members.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reservoir(nn.Module):
    """`tanh(Win x + bias)` over some input columns, with reservoirpy's matrices as buffers."""

    columns: Tensor  # [C] input columns, known from the vocabulary
    win: Tensor  # [U, C]
    bias: Tensor  # [U]

    def __init__(self, columns: list[int], units: int) -> None:
        super().__init__()
        self.units = units
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.register_buffer("win", torch.zeros(units, len(columns)))
        self.register_buffer("bias", torch.zeros(units))

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, F] -> [B, U]`."""
        return torch.tanh(F.linear(inputs[:, self.columns], self.win, self.bias))


class Dropout(nn.Module):
    """Dropout whose coins are single random bytes: `nn.Dropout` draws a number each, a third of a step on CPUs.

    The rate is rounded to 1/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.cut = round(rate * 256)  # bytes below this are dropped

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.cut:
            return inputs
        words = torch.empty((inputs.numel() + 7) // 8, dtype=torch.int64, device=inputs.device)
        words.random_(-(2**63), None)  # all 64 bits
        kept = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape) >= self.cut
        return inputs * (kept.to(inputs.dtype) * (256 / (256 - self.cut)))


class OwnLogit(nn.Module):
    """The skip: gain and offset per tag on the tag's own upstream logit."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(tags))
        self.offset = nn.Parameter(torch.zeros(tags))

    def forward(self, logits: Tensor) -> Tensor:
        """Upstream logits of all inputs `[B, F] -> [B, T]`: a tag's own column has the tag's index."""
        return logits[:, : len(self.gain)].float() * self.gain + self.offset


class OwnFrequency(nn.Module):
    """What stands where the skip is left out: an offset per tag, so that rare tags start as rare."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(tags))

    def forward(self, logits: Tensor) -> Tensor:
        """`[B, F] -> [B, T]`."""
        return self.offset.expand(len(logits), -1)


class Block(nn.Module):
    """One pre-norm encoder block."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, K, W] -> [B, K, W]`."""
        tokens = tokens + self.dropout(self._attend(self.attention_norm(tokens)))
        return tokens + self.dropout(self.down(F.gelu(self.up(self.mlp_norm(tokens)))))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, K, W/H]
        with torch.autocast(tokens.device.type, enabled=False):
            # On CPUs bfloat16 attention over a dozen tokens takes four times as long as float32 (measured).
            mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float())  # [B, H, K, W/H]
        return self.out(mixed.to(qkv.dtype).transpose(1, 2).reshape(batch, count, width))


class MemberLinear(nn.Module):
    """A linear layer for each member: `[B, I]` or `[M, B, I]` `-> [M, B, O]`."""

    def __init__(self, members: int, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))
        if not zero:
            reach = inputs**-0.5  # as nn.Linear starts
            nn.init.uniform_(self.weight, -reach, reach)
            nn.init.uniform_(self.bias, -reach, reach)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.expand(len(self.weight), *inputs.shape[-2:])
        return torch.baddbmm(self.bias.to(rows.dtype), rows, self.weight.to(rows.dtype))


class Members(nn.Module):
    """An ensemble of MLPs side by side: each has weights of its own and, in training, coins of its own."""

    def __init__(
        self, members: int, inputs: int, width: int, outputs: int, dropout: float, input_dropout: float
    ) -> None:
        super().__init__()
        self.members = members
        self.input_dropout, self.dropout = Dropout(input_dropout), Dropout(dropout)
        self.first = MemberLinear(members, inputs, width)
        self.second = MemberLinear(members, width, width)
        self.last = MemberLinear(members, width, outputs, zero=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, F] -> [M, B, T]`."""
        seen = self.input_dropout(inputs.expand(self.members, *inputs.shape))
        hidden = self.dropout(F.gelu(self.first(seen)))
        hidden = self.dropout(F.gelu(self.second(hidden)))
        return self.last(hidden)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts by saying nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
