"""What a search may change, how a configuration is made of it, and how the winner is written down.

A space starts from a named configuration (its `base`) and has a range for some of its fields. The base itself lies
inside the space and is what trial 0 tries, so that a search ends no worse than it began. Knows configurations and
Optuna's distributions; knows no data.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution, distribution_to_json

from model.config import CONFIGS, TrainingConfig
from model.errors import ModelError
from model.network import NetworkConfig

DIGITS = 5  # significant ones of a number: what is tried is what the file says
HEAD_WIDTH = "head_width"  # the width of one attention head; the network's width is heads times this
F1, BCE = "weighted F1", "BCE"
Range = IntDistribution | FloatDistribution


@dataclass(frozen=True)
class Space:
    name: str
    base: str  # a name in CONFIGS
    objective: str  # F1 (the higher the better) or BCE (the lower the better), out of fold
    ranges: dict[str, Range]  # by field of the network or of the training, and HEAD_WIDTH

    @property
    def maximises(self) -> bool:
        return self.objective == F1

    def base_params(self) -> dict[str, Any]:
        """The base's own place in the space."""
        config = CONFIGS[self.base]
        values = {**dataclasses.asdict(config), **dataclasses.asdict(config.network)}
        values[HEAD_WIDTH] = config.network.width // config.network.heads
        return {name: values[name] for name in self.ranges}

    def configure(self, params: dict[str, Any]) -> TrainingConfig:
        """The configuration at a place in the space."""
        base = CONFIGS[self.base]
        network, training = self._fields(params)
        return dataclasses.replace(base, **training, network=dataclasses.replace(base.network, **network))

    def to_toml(self, params: dict[str, Any], remark: str) -> str:
        """The same configuration as a file that `model.config.load` reads; `remark` becomes its first line."""
        network, training = self._fields(params)
        lines = [f"# {remark}", f"base = {json.dumps(self.base)}"]
        lines += [f"{name} = {value!r}" for name, value in training.items()]
        lines += ["", "[network]"]
        lines += [f"{name} = {value!r}" for name, value in network.items()]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """What makes two trials comparable: the base, the objective and the ranges."""
        ranges = {name: json.loads(distribution_to_json(item)) for name, item in self.ranges.items()}
        about = {"base": dataclasses.asdict(CONFIGS[self.base]), "objective": self.objective, "ranges": ranges}
        return json.dumps(about, sort_keys=True)

    def _fields(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What differs from the base: fields of the network, and of the training."""
        values = {name: float(f"{v:.{DIGITS}g}") if isinstance(v, float) else v for name, v in params.items()}
        if HEAD_WIDTH in values:
            values["width"] = values["heads"] * values.pop(HEAD_WIDTH)
        of_network = {item.name for item in dataclasses.fields(NetworkConfig)}
        network = {name: value for name, value in values.items() if name in of_network}
        training = {name: value for name, value in values.items() if name not in of_network}
        return network, training


SPACES = {
    # The study's own five. It searched by validation loss; its best trial (15 heads of 19, two layers) is the base.
    "study": Space(
        "study",
        base="study",
        objective=BCE,
        ranges={
            "heads": IntDistribution(1, 20),
            HEAD_WIDTH: IntDistribution(4, 32),
            "layers": IntDistribution(1, 4),
            "dropout": FloatDistribution(0.0, 0.5),
            "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        },
    ),
    # Bounded so that whatever wins can still be carried by the stream: tokens of at most 128, two blocks.
    "ours": Space(
        "ours",
        base="default",
        objective=F1,
        ranges={
            "heads": IntDistribution(1, 8),
            HEAD_WIDTH: IntDistribution(8, 16, step=8),
            "layers": IntDistribution(0, 2),
            "feedforward": IntDistribution(64, 512, step=64),
            "dropout": FloatDistribution(0.0, 0.4),
            "reservoir_units": IntDistribution(0, 384, step=64),
            "reservoir_across_units": IntDistribution(0, 896, step=64),
            "reservoir_dropout": FloatDistribution(0.0, 0.7),
            "readout_dropout": FloatDistribution(0.0, 0.7),
            "members": IntDistribution(1, 4),
            "mlp_width": IntDistribution(0, 768, step=128),
            "mlp_dropout": FloatDistribution(0.0, 0.7),
            "input_dropout": FloatDistribution(0.0, 0.4),
            "learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
            "weight_decay": FloatDistribution(0.01, 1.0, log=True),
            "average": FloatDistribution(0.98, 0.999),
            "swap": FloatDistribution(0.0, 0.8),
            "mixup": FloatDistribution(0.0, 1.0),
        },
    ),
}


def find(name: str) -> Space:
    """The space of that name.

    Raises:
        ModelError: where there is none.
    """
    if name not in SPACES:
        raise ModelError(f"'{name}' is not a search space; there are {', '.join(SPACES)}.")
    return SPACES[name]
