"""How a model is trained, by name or from a TOML file.

A file names a `base` and what differs from it: training fields at the top, network fields under `[network]`.
"""

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.errors import ModelError
from model.network import NetworkConfig
from model.objective import Objective


@dataclass(frozen=True)
class TrainingConfig:
    network: NetworkConfig = field(default_factory=NetworkConfig)
    epochs: int = 15  # at most; early stopping may end sooner
    patience: int = 4  # epochs without a better held-out loss before a fit stops
    batch: int = 512  # tracks per step
    learning_rate: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.98)  # of AdamW
    weight_decay: float = 0.3  # on matrices only
    warmup: float = 0.1  # share of the steps
    cosine: bool = True  # decay the learning rate to zero; constant after the warm-up otherwise
    clip_norm: float = 1.0  # of the gradient; 0 for no clipping
    average: float = 0.995  # of the weights (EMA per step); 0 for none
    swap: float = 0.4  # share of the tracks that take another's residual (`model.augment`)
    mixup: float = 0.4  # Beta parameter of the mix of two tracks; 0 for none
    folds: int = 4  # by artist, for out-of-fold scores
    smoothings: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)  # tried for the thresholds, chosen out of fold
    objective: Objective = field(default_factory=Objective)  # of the thresholds; in TOML a text, "precision:0.8"
    fall_back: bool = True  # serve the upstream where out of fold the network is no better
    bf16: bool = True  # bfloat16 autocast where the CPU has it


CONFIGS = {
    "default": TrainingConfig(),
    "demo": TrainingConfig(epochs=7, folds=2),
    "linear": TrainingConfig(
        network=NetworkConfig(architecture="linear"),
        epochs=12,
        learning_rate=3e-3,
        weight_decay=0.1,
        swap=0.0,
        mixup=0.0,
    ),
    "study": TrainingConfig(
        network=NetworkConfig(
            architecture="study",
            width=285,
            heads=15,
            layers=2,
            feedforward=2048,  # nn.Transformer's own default
            dropout=0.2618,
            reservoir_units=100,
            reservoir_across_units=0,
        ),
        epochs=20,
        patience=3,
        batch=64,
        learning_rate=1.578e-4,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        warmup=0.0,
        cosine=False,
        clip_norm=0.0,
        average=0.0,
        swap=0.0,
        mixup=0.0,
        folds=2,
    ),
    "upstream": TrainingConfig(network=NetworkConfig(architecture="upstream"), fall_back=False),
}
AT_LEAST = dict.fromkeys(("epochs", "patience", "batch", "width", "heads", "members"), 1) | {"folds": 2}
POSITIVE = ("learning_rate", "reservoir_scale")
UP_TO_ONE = ("warmup", "swap")
BELOW_ONE = ("betas", "average", "dropout", "reservoir_dropout", "readout_dropout", "mlp_dropout", "input_dropout")
BELOW_HALF = ("clip_low", "clip_high")  # and above 0: what is left between them is all that a network sees


def load(name_or_path: str) -> TrainingConfig:
    """The configuration of that name, or the one a TOML file describes.

    Raises:
        ModelError: where there is neither, or the file says something that is no setting.
    """
    if name_or_path in CONFIGS:
        return CONFIGS[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise ModelError(
            f"'{name_or_path}' is neither a configuration ({', '.join(CONFIGS)}) nor a TOML file with one."
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not TOML: {error}.") from None
    base = values.pop("base", "default")
    if not isinstance(base, str) or base not in CONFIGS:
        raise ModelError(f"{path}: base '{base}' is not a configuration; there are {', '.join(CONFIGS)}.")
    overrides = values.pop("network", {})
    if not isinstance(overrides, dict):
        raise ModelError(f"{path}: 'network' takes a table of settings, [network].")
    network = _override(CONFIGS[base].network, overrides, f"{path} [network]")
    return dataclasses.replace(_override(CONFIGS[base], values, str(path)), network=network)


def _override(config: Any, values: dict[str, Any], where: str) -> Any:
    known = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    for name, value in values.items():
        if name not in known or name == "network":
            raise ModelError(f"{where}: '{name}' is not a setting.")
        wanted = type(known[name])
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
        elif wanted is Objective and isinstance(value, str):
            values[name] = Objective.parse(value)
        elif wanted is tuple and isinstance(value, list):
            values[name] = _numbers(value, f"{where}: '{name}'")
        elif type(value) is not wanted:
            raise ModelError(f"{where}: '{name}' takes {wanted.__name__}, not {value!r}.")
        _check_range(name, values[name], where)
    return dataclasses.replace(config, **values)


def _numbers(items: list[Any], where: str) -> tuple[float, ...]:
    if not items or not all(type(item) in (int, float) for item in items):
        raise ModelError(f"{where} takes a list of numbers, not {items!r}.")
    return tuple(map(float, items))


def _check_range(name: str, value: Any, where: str) -> None:
    """That a number, or each of several, is one that can be meant; torch would tell some of it, late and in its words.

    Raises:
        ModelError: otherwise.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if type(number) not in (int, float):
            continue
        allowed, words = number >= 0, "at least 0"
        if name in AT_LEAST:
            allowed, words = number >= AT_LEAST[name], f"at least {AT_LEAST[name]}"
        elif name in POSITIVE:
            allowed, words = number > 0, "more than 0"
        elif name in UP_TO_ONE:
            allowed, words = 0 <= number <= 1, "between 0 and 1"
        elif name in BELOW_ONE:
            allowed, words = 0 <= number < 1, "at least 0 and less than 1"
        elif name in BELOW_HALF:
            allowed, words = 0 < number < 0.5, "more than 0 and less than 0.5"
        if not allowed or not math.isfinite(number):
            raise ModelError(f"{where}: '{name}' is {words}, not {number:g}.")
