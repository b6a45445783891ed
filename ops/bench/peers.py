"""The systems that are compared: how each is started on the same topic with the same weights.

A new peer is one `Peer` in `PEERS`: a command that consumes `lane.source` as `lane.group` from the earliest offset,
publishes a decision per event to `lane.tags`, commits, and needs no more than its environment.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.workload import Workload

BASELINE = "stock-faust"
# One process on one core: a thread pool of a numerical library would only fight over it.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class Lane:
    """One run's own names: the shared input and the topics, group and folder that belong to the run alone."""

    name: str
    bootstrap: str
    redis_url: str
    source: str
    tags: str
    scores: str
    deadletter: str
    group: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """As the product's settings, for its worker and for its own topics' creation."""
        return {
            "TAGSTREAM_KAFKA_BOOTSTRAP": self.bootstrap,
            "TAGSTREAM_REDIS_URL": self.redis_url,
            "TAGSTREAM_REDIS_PREFIX": f"{self.name}:",
            "TAGSTREAM_GROUP": self.group,
            "TAGSTREAM_TOPIC_PROBABILITIES": self.source,
            "TAGSTREAM_TOPIC_TAGS": self.tags,
            "TAGSTREAM_TOPIC_SCORES": self.scores,
            "TAGSTREAM_TOPIC_DEADLETTER": self.deadletter,
            "TAGSTREAM_STATE_DIR": str(self.folder / "state"),
        }


@dataclass(frozen=True)
class Start:
    """A process to start; its environment is the caller's plus `environment`."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def full_environment(self) -> dict[str, str]:
        return os.environ | ONE_THREAD | dict(self.environment)


@dataclass(frozen=True)
class Peer:
    """A system by name; `prepare` makes once what all its runs share, such as a model, in a folder of its own."""

    name: str
    start: Callable[[Lane, Path], Start]
    prepare: Callable[[Workload, Path], None] = lambda _workload, _folder: None
    needs_redis: bool = False


def _prepare_stock_faust(workload: Workload, folder: Path) -> None:
    workload.scorer.save(folder / "scorer.npz")


def _start_stock_faust(lane: Lane, shared: Path) -> Start:
    return Start(
        [sys.executable, "-m", "ops.bench.stock_faust", "worker", "--without-web", "-l", "warn"],
        {
            "BENCH_BOOTSTRAP": lane.bootstrap,
            "BENCH_GROUP": lane.group,
            "BENCH_SOURCE": lane.source,
            "BENCH_TAGS": lane.tags,
            "BENCH_SCORER": str(shared / "scorer.npz"),
            "BENCH_DATADIR": str(lane.folder),
        },
    )


def _prepare_tagstream(workload: Workload, folder: Path) -> None:
    """A model artefact whose `linear` network has the workload's weights; `champion` starts a worker."""
    import torch

    from model.artifact import fixed_network, new_artifact
    from model.network import Linear
    from model.registry import Registry

    network = fixed_network(workload.vocabulary, "linear")
    assert isinstance(network, Linear)
    weights, bias = workload.linear_part
    with torch.no_grad():
        network.linear.weight.copy_(torch.from_numpy(weights))
        network.linear.bias.copy_(torch.from_numpy(bias))
        network.skip.gain.fill_(1.0)
        network.skip.offset.fill_(0.0)
    thresholds = dict(zip(workload.layout.tags, workload.scorer.thresholds.tolist(), strict=True))
    version = new_artifact(network, workload.vocabulary, thresholds, folder)
    Registry(folder).set_alias("champion", version, who="bench", why="the weights that every peer has")


def _start_tagstream(lane: Lane, shared: Path) -> Start:
    own = {"TAGSTREAM_MODELS_DIR": str(shared), "TAGSTREAM_METRICS_PORT": "0", "TAGSTREAM_DEVICE": "cpu"}
    executable = Path(sys.executable).with_name("tagstream")  # the command itself, as a person starts it
    return Start([str(executable), "worker"], lane.environment() | own)


PEERS: tuple[Peer, ...] = (
    Peer(BASELINE, _start_stock_faust, _prepare_stock_faust),
    Peer("tagstream-json", _start_tagstream, _prepare_tagstream, needs_redis=True),
)
