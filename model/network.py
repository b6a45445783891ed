"""The networks that turn upstream probabilities into scores.

Input is raw probabilities `[B, F]`, exactly as an event carries them; output is one logit per tag `[B, T]`. All
feature making (clip, logit, standardise, reservoirs) lives inside, so what is exported is what is served. Knows
nothing of training, thresholds or files: matrices that are not learnt (reservoirs, means) are buffers that
`model.initialise` fills and the artefact carries.

Notable choices:
- every network but the study's adds each tag's own upstream logit to its output (measured: +.02 weighted F1);
- output layers start at zero, so an untrained network is the calibrated upstream;
- the MLP is an ensemble: its members share all other parts, learn from a loss each and are averaged when served;
- several tokens, at least one per class and per group of categories: one alone leaves attention nothing to do.

Shapes: B tracks, F inputs, T tags, K tokens, W token width, U reservoir units, M members.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.errors import ModelError
from model.layers import Block, Dropout, Members, OwnFrequency, OwnLogit, Reservoir, zero_linear
from model.vocabulary import CLASSES, Vocabulary

ARCHITECTURES = ("tokens", "study", "linear", "upstream")
ACROSS = "across"  # the reservoir that sees all classes


@dataclass(frozen=True)
class NetworkConfig:
    architecture: str = "tokens"  # one of ARCHITECTURES
    clip_low: float = 1e-5  # probabilities are clipped to [clip_low, 1 - clip_high] before the logit
    clip_high: float = 2.5e-4
    width: int = 64  # of a token
    heads: int = 4  # of attention; divides width
    layers: int = 1  # encoder blocks; 0 for tokens that are read out as they are
    feedforward: int = 128  # hidden units of a block
    dropout: float = 0.1  # inside the encoder
    reservoir_units: int = 192  # of each class's own reservoir; 0 for none
    reservoir_across_units: int = 448  # of the reservoir that sees all classes; 0 for none
    reservoir_scale: float = 1.0  # standard deviation of a unit's drive under standardised inputs
    reservoir_dropout: float = 0.5
    readout_dropout: float = 0.4  # on the encoded tokens
    members: int = 4  # MLPs beside the encoder, averaged
    mlp_width: int = 512  # of a member's two hidden layers; 0 for no MLP
    mlp_dropout: float = 0.4
    input_dropout: float = 0.15
    skip: bool = True  # each tag's own upstream logit is added to the output
    linear: bool = True  # so is one linear layer over the standardised logits


class Features(nn.Module):
    """Clipped logits and their standardised form."""

    mean: Tensor  # [F] of the training data's clipped logits
    scale: Tensor  # [F] one over their standard deviation

    def __init__(self, inputs: int, config: NetworkConfig) -> None:
        super().__init__()
        self.low, self.high = config.clip_low, 1.0 - config.clip_high
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def logits(self, probabilities: Tensor) -> Tensor:
        """Clipped logits `[B, F]` of raw probabilities `[B, F]`."""
        return torch.logit(probabilities.clamp(self.low, self.high))

    def standardise(self, logits: Tensor) -> Tensor:
        return (logits - self.mean) * self.scale


class Rescorer(nn.Module):
    """What every architecture shares: raw probabilities in, logits of the tags out."""

    def __init__(self, vocabulary: Vocabulary, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.n_inputs, self.n_tags = vocabulary.n_inputs, vocabulary.n_tags
        self.classes = [columns for name in CLASSES if (columns := vocabulary.columns_of(name))]
        self.features = Features(self.n_inputs, config)

    def forward(self, probabilities: Tensor) -> Tensor:
        """`[B, F] -> [B, T]`."""
        return self.rescore(self.features.logits(probabilities))

    def rescore(self, logits: Tensor) -> Tensor:
        """From clipped logits `[B, F]`: training mixes tracks there."""
        return self.rescore_each(logits).mean(dim=0)

    def rescore_each(self, logits: Tensor) -> Tensor:
        """What each member says `[M, B, T]`: members that learnt from their mean would all become one."""
        raise NotImplementedError

    def reservoirs(self) -> list[Reservoir]:
        """The fixed projections, to be filled by `model.initialise`."""
        return [module for module in self.modules() if isinstance(module, Reservoir)]


class Upstream(Rescorer):
    """The upstream as it is: what is served where a network does not pay."""

    def rescore_each(self, logits: Tensor) -> Tensor:
        return logits[:, : self.n_tags].unsqueeze(0)


class Linear(Rescorer):
    """Own logit plus one linear layer over the standardised logits: cheap, and hard to beat."""

    def __init__(self, vocabulary: Vocabulary, config: NetworkConfig) -> None:
        super().__init__(vocabulary, config)
        self.skip = OwnLogit(self.n_tags)
        self.input_dropout = Dropout(config.input_dropout)
        self.linear = zero_linear(self.n_inputs, self.n_tags)

    def rescore_each(self, logits: Tensor) -> Tensor:
        output = self.linear(self.input_dropout(self.features.standardise(logits)))
        return (self.skip(logits) + output).unsqueeze(0)


class Tokens(Rescorer):
    """The default: own logit + linear + MLP + a transformer over tokens of lists and reservoirs."""

    def __init__(self, vocabulary: Vocabulary, config: NetworkConfig) -> None:
        super().__init__(vocabulary, config)
        self.spans = [(group.start, group.stop) for group in vocabulary.groups if group.stop > group.start]
        pools = build_reservoirs(vocabulary, config)
        self.pools = nn.ModuleDict(pools)
        self.skip = OwnLogit(self.n_tags) if config.skip else OwnFrequency(self.n_tags)
        self.input_dropout = Dropout(config.input_dropout)
        self.linear = zero_linear(self.n_inputs, self.n_tags) if config.linear else None
        # A list's token sees its standardised logits beside its raw probabilities.
        self.embed_lists = nn.ModuleList(nn.Linear(2 * (b - a), config.width) for a, b in self.spans)
        self.embed_pools = nn.ModuleList(nn.Linear(pool.units, config.width) for pool in pools.values())
        count = len(self.spans) + len(pools)
        self.position = nn.Parameter(0.02 * torch.randn(count, config.width))
        self.reservoir_dropout = Dropout(config.reservoir_dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.feedforward, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.readout_dropout = Dropout(config.readout_dropout)
        self.readout = zero_linear(count * config.width, self.n_tags)
        self.mlp = build_members(self.n_inputs, self.n_tags, config) if config.mlp_width else None

    def rescore_each(self, logits: Tensor) -> Tensor:
        standard = self.features.standardise(logits)  # [B, F]
        dropped = self.input_dropout(standard)
        tokens = self._tokens(dropped, logits, standard)  # [B, K, W]
        for block in self.blocks:
            tokens = block(tokens)
        output = self.readout(self.readout_dropout(self.norm(tokens).flatten(1)))
        if self.linear is not None:
            output = output + self.linear(dropped)
        shared = self.skip(logits) + output.float()  # [B, T]
        return shared.unsqueeze(0) if self.mlp is None else shared + self.mlp(standard).float()

    def _tokens(self, dropped: Tensor, logits: Tensor, standard: Tensor) -> Tensor:
        raw = torch.sigmoid(logits)  # the clipped probabilities again
        lists = [
            embed(torch.cat((dropped[:, a:b], raw[:, a:b]), dim=1))
            for embed, (a, b) in zip(self.embed_lists, self.spans, strict=True)
        ]
        pools = [
            embed(self.reservoir_dropout(pool(standard)))
            for embed, pool in zip(self.embed_pools, self.pools.values(), strict=True)
        ]
        return torch.stack(lists + pools, dim=1) + self.position


class Study(Rescorer):
    """The study's own network: inputs and reservoirs as one token, no skip."""

    def __init__(self, vocabulary: Vocabulary, config: NetworkConfig) -> None:
        super().__init__(vocabulary, config)
        pools = build_reservoirs(vocabulary, config)
        self.pools = nn.ModuleDict(pools)
        units = sum(pool.units for pool in pools.values())
        self.embed = nn.Linear(self.n_inputs + units, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, config.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.head = nn.Linear(config.width, self.n_tags)

    def rescore_each(self, logits: Tensor) -> Tensor:
        raw = torch.sigmoid(logits)
        pools = [pool(self.features.standardise(logits)) for pool in self.pools.values()]
        token = self.embed(torch.cat((raw, *pools), dim=1)).unsqueeze(1)  # [B, 1, W]
        return self.head(self.encoder(token).squeeze(1)).float().unsqueeze(0)


def build_members(inputs: int, outputs: int, config: NetworkConfig) -> Members:
    return Members(config.members, inputs, config.mlp_width, outputs, config.mlp_dropout, config.input_dropout)


def build_reservoirs(vocabulary: Vocabulary, config: NetworkConfig) -> dict[str, Reservoir]:
    """One per class that has columns and one across all; none of zero units."""
    pools: dict[str, Reservoir] = {}
    for class_name in CLASSES:
        columns = vocabulary.columns_of(class_name)
        if columns and config.reservoir_units:
            pools[class_name] = Reservoir(columns, config.reservoir_units)
    if config.reservoir_across_units:
        pools[ACROSS] = Reservoir(list(range(vocabulary.n_inputs)), config.reservoir_across_units)
    return pools


def build(vocabulary: Vocabulary, config: NetworkConfig) -> Rescorer:
    """The network of `config.architecture`, its reservoirs still empty.

    Raises:
        ModelError: for an unknown architecture, or heads that do not divide the width.
    """
    kinds: dict[str, type[Rescorer]] = {"tokens": Tokens, "study": Study, "linear": Linear, "upstream": Upstream}
    if config.architecture not in kinds:
        raise ModelError(f"'{config.architecture}' is not an architecture; there are {', '.join(ARCHITECTURES)}.")
    if config.members < 1:
        raise ModelError(f"A network has at least one member, not {config.members}.")
    if config.width % config.heads:
        raise ModelError(f"A width of {config.width} cannot be shared by {config.heads} attention heads.")
    return kinds[config.architecture](vocabulary, config)
