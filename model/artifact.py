"""The model artefact: an immutable folder that says what it is and proves that it still is.

    <version>/model.safetensors   network and reservoir matrices
              manifest.json       everything else that decides, checksums, golden inputs and outputs
              README.md, report/  for people

Written aside and renamed, so a half-written artefact is never visible. Nothing is pickled. Knows files and networks;
knows nothing of aliases, Redis or the stream.
"""

import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from model import manifest as manifests
from model.errors import ModelError
from model.initialise import new_network
from model.manifest import MANIFEST, WEIGHTS
from model.network import NetworkConfig, Rescorer, build
from model.thresholds import DECIMALS, OFF, Threshold
from model.thresholds import number as threshold_number
from model.thresholds import row as thresholds_row
from model.training import Trained, describe_config
from model.vocabulary import Vocabulary

SCORE_BATCH = 4096  # rows per forward pass
GOLDEN_DRIFT_MAX = 0.01  # a score further from its golden value than this is another network
GOLDEN_ROWS = 16
SIZE_MAX = 65_536  # of any one dimension that a manifest names
LAYERS_MAX = 256
LIBRARIES = ("torch", "numpy", "reservoirpy", "safetensors", "pyarrow")


@dataclass(frozen=True)
class Artifact:
    """A loaded model."""

    version: str
    manifest: dict[str, Any]
    vocabulary: Vocabulary
    network: Rescorer
    thresholds: dict[str, Threshold]  # a number in [0, 1], or "off"

    def score(self, probabilities: NDArray[np.float32]) -> NDArray[np.float16]:
        """Raw probabilities `[B, F]` to scores `[B, T]`, rounded to float16 as the contract says."""
        return score(self.network, probabilities)

    def threshold_row(self) -> NDArray[np.float64]:
        """The tuned thresholds `[T]` in vocabulary order; infinity is off."""
        return thresholds_row(self.vocabulary.tags, self.thresholds)


@torch.inference_mode()
def score(network: Rescorer, probabilities: NDArray[np.float32]) -> NDArray[np.float16]:
    """Scores `[B, T]` of raw probabilities `[B, F]`, on whatever device the network is.

    Raises:
        ModelError: for rows of another width; broadcasting would score them without a word.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != network.n_inputs:
        raise ModelError(f"The network takes rows of {network.n_inputs} probabilities, not {probabilities.shape}.")
    device = network.features.mean.device
    rows = torch.from_numpy(np.ascontiguousarray(probabilities, dtype=np.float32))
    # rounded by torch, as numpy does it and in a twentieth of the time
    parts = [torch.sigmoid(network(part.to(device))).float().half().cpu() for part in rows.split(SCORE_BATCH)]
    return torch.cat(parts).numpy()


def save(trained: Trained, models_dir: Path | str) -> str:
    """Write a trained model into `models_dir`; returns its version."""
    from model import report

    return write(
        trained.network,
        trained.vocabulary,
        trained.thresholds,
        models_dir,
        golden_inputs=trained.golden_inputs,
        about={
            "metrics": trained.metrics,
            "training": describe_config(trained.config),
            "data": trained.data,
            "seeds": {"seed": trained.seed, **trained.machine},
            "seconds": trained.seconds,
        },
        extra_files=report.files(trained),
    )


def new_artifact(
    network: Rescorer,
    vocabulary: Vocabulary,
    thresholds: Mapping[str, Threshold],
    models_dir: Path | str,
    *,
    seed: int = 0,
) -> str:
    """An artefact of a network as it stands, without training: for tests and benchmarks; returns its version."""
    golden = np.random.default_rng(seed).random((GOLDEN_ROWS, vocabulary.n_inputs), dtype=np.float32)
    note = {"metrics": {}, "training": {}, "data": {}, "seeds": {"seed": seed}}
    return write(network, vocabulary, thresholds, models_dir, golden_inputs=golden, about=note)


def fixed_network(vocabulary: Vocabulary, architecture: str = "linear", seed: int = 0) -> Rescorer:
    """A network with seeded weights, output layers included: cheap, and different for each seed."""
    network = new_network(vocabulary, NetworkConfig(architecture=architecture), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.02, generator=generator)
    return network.eval()


def write(
    network: Rescorer,
    vocabulary: Vocabulary,
    thresholds: Mapping[str, Threshold],
    models_dir: Path | str,
    *,
    golden_inputs: NDArray[np.float32],
    about: dict[str, Any],
    extra_files: Mapping[str, bytes] | None = None,
) -> str:
    """The one way an artefact comes to be: assemble, write aside, rename.

    Raises:
        ModelError: where thresholds and tags differ, or the folder cannot be written.
    """
    if set(thresholds) != set(vocabulary.tags):
        raise ModelError("An artefact needs exactly one threshold for each tag of its vocabulary.")
    network = network.eval()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    files: dict[str, bytes] = {WEIGHTS: safetensors.torch.save(state), **(extra_files or {})}
    created = datetime.now(UTC)
    body: dict[str, Any] = {
        "format": manifests.FORMAT_VERSION,
        "created_at": created.isoformat(timespec="seconds"),
        "network": asdict(network.config),
        "vocabulary": vocabulary.to_dict(),
        "fingerprint": vocabulary.fingerprint,
        "features": manifests.features(vocabulary, network.config.clip_low, network.config.clip_high),
        "thresholds": {tag: _written(thresholds[tag]) for tag in vocabulary.tags},
        **about,
        "libraries": {"python": platform.python_version(), **{n: library_version(n) for n in LIBRARIES}},
        "files": {name: manifests.describe_file(content) for name, content in files.items()},
        "golden": {
            "inputs": [[float(number) for number in row] for row in golden_inputs],
            "outputs": [[float(number) for number in row] for row in score(network, golden_inputs)],
        },
    }
    body["version"] = f"{created:%Y%m%dT%H%M%SZ}-{manifests.content_digest(body)}"
    files[MANIFEST] = json.dumps(body, ensure_ascii=False, indent=1).encode()
    _publish(Path(models_dir), body["version"], files)
    return body["version"]


def _written(threshold: Threshold) -> Threshold:
    """A threshold as the manifest holds it: 6 decimals, or the word."""
    value = threshold_number(threshold)
    return round(value, DECIMALS) if math.isfinite(value) else OFF


def _publish(models_dir: Path, version: str, files: Mapping[str, bytes]) -> None:
    """Write all files into a hidden folder beside, flush them, and rename it into place."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".incoming-", dir=models_dir))
    except OSError as error:
        raise ModelError(f"{models_dir} cannot be written: {error.strerror or error}.") from None
    try:
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        aside.chmod(0o755)  # mkdtemp makes it private; workers of other users share the folder
        if not (models_dir / version).exists():  # the same content in the same second is the same artefact
            aside.rename(models_dir / version)
    except OSError as error:
        raise ModelError(f"{models_dir / version} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(path: Path | str, *, verify: bool = True) -> Artifact:
    """The artefact in the folder `path`; `verify` checks every file and the golden outputs too.

    Raises:
        ModelError: in one sentence, for anything that is not as the manifest says.
    """
    folder = Path(path).absolute()
    manifests.check_version_name(folder.name)
    if not folder.is_dir():
        raise ModelError(f"There is no model {folder.name} in {folder.parent}.")
    manifest = manifests.read_manifest(folder)
    vocabulary = Vocabulary.from_json(manifest["vocabulary"])
    if set(manifest["thresholds"]) != set(vocabulary.tags):
        raise ModelError(f"The thresholds of {folder.name} are not one for each tag of its vocabulary.")
    weights = manifests.read_checked(folder, manifest, WEIGHTS)
    network = _build(manifest, vocabulary, len(weights))
    _fill(network, weights, folder.name)
    artifact = Artifact(
        version=folder.name,
        manifest=manifest,
        vocabulary=vocabulary,
        network=network.eval().requires_grad_(False),
        thresholds={tag: manifest["thresholds"][tag] for tag in vocabulary.tags},
    )
    if verify:
        manifests.check_files(folder, manifest)
        check_golden(artifact)
    return artifact


def _build(manifest: dict[str, Any], vocabulary: Vocabulary, weights_bytes: int) -> Rescorer:
    """The network; first without memory, so that a manifest cannot ask for more than its weights would fill."""
    try:
        config = NetworkConfig(**manifest["network"])
        _check_sizes(config)
        with torch.device("meta"), _Unfilled():
            needed = sum(value.nbytes for value in build(vocabulary, config).state_dict().values())
        if needed > weights_bytes:
            raise ValueError(f"it needs {needed} bytes of weights, there are {weights_bytes}")
        with torch.random.fork_rng(devices=[]):
            return build(vocabulary, config)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{manifest['version']} describes no network that can be built: {reason}.") from None


_FILLING = frozenset(getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "fill_", "zero_", "mul"))


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills tensors: there is no memory to fill, and torch would import 900 modules to say so."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _FILLING:
            return args[0]
        return (torch.empty if function is torch.randn else function)(*args, **(kwargs or {}))


def _check_sizes(config: NetworkConfig) -> None:
    for name, value in asdict(config).items():
        usual = getattr(NetworkConfig, name)
        if isinstance(usual, bool):
            if type(value) is not bool:
                raise ValueError(f"{name} is {str(value)[:40]}, neither true nor false")
        elif isinstance(usual, int) and not (type(value) is int and 0 <= value <= SIZE_MAX):
            raise ValueError(f"{name} is {str(value)[:40]}, not a number up to {SIZE_MAX}")
        if isinstance(usual, float) and not (type(value) in (int, float) and math.isfinite(value)):
            raise ValueError(f"{name} is {str(value)[:40]}, not a finite number")
    if not config.heads or config.layers > LAYERS_MAX:
        raise ValueError(f"{config.heads} heads and {config.layers} layers; 1 or more, and up to {LAYERS_MAX}")


def _fill(network: Rescorer, weights: bytes, version: str) -> None:
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The weights of {version} do not fit its network: {reason}.") from None


def check_golden(artifact: Artifact) -> int:
    """Score the golden inputs again; returns how many decisions differ within the allowed float16 step.

    Raises:
        ModelError: where this machine does not decide as the one that wrote the artefact.
    """
    golden = artifact.manifest["golden"]
    try:
        inputs = np.array(golden["inputs"], dtype=np.float32)
        expected = np.array(golden["outputs"], dtype=np.float16)
        found = artifact.score(inputs)
        drift = np.abs(found.astype(np.float64) - expected).max()
    except (ValueError, TypeError, KeyError, ModelError):
        raise ModelError(f"The golden inputs and outputs of {artifact.version} are damaged.") from None
    if not drift <= GOLDEN_DRIFT_MAX:
        raise ModelError(f"{artifact.version} does not score its golden inputs as recorded (off by {drift:.3g}).")
    strays, within = disagreements(found, expected, artifact.threshold_row())
    if strays:
        raise ModelError(f"{artifact.version} decides {strays} tags of its golden inputs otherwise than recorded.")
    return within


def disagreements(one: NDArray[np.float16], other: NDArray[np.float16], thresholds: NDArray) -> tuple[int, int]:
    """How many decisions differ beyond, and how many within, one float16 step of the threshold."""
    limit = thresholds.astype(np.float64)
    differ = (one.astype(np.float64) >= limit) != (other.astype(np.float64) >= limit)
    step = np.spacing(np.maximum(one, other)).astype(np.float64)
    near = np.minimum(np.abs(one - limit), np.abs(other - limit)) <= step
    return int((differ & ~near).sum()), int((differ & near).sum())
