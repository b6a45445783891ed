"""The systems that are compared: how each is started on the same topic with the same weights.

A new peer is one `Peer` in `PEERS`: a command that consumes `lane.source` as `lane.group` from the earliest offset,
publishes a decision per event to `lane.tags`, commits, and needs no more than its environment.

Those of other projects are optional (`pip install -e '.[bench]'`); one whose pins do not fit beside this stack has a
virtual environment of its own, made by `make bench-peers`. One that is not there is told, never left out in silence.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ops.bench.workload import Workload

BASELINE = "stock-faust"
SLOW_SHARE = 0.25  # of the events, for a system that would keep all others waiting
FAST_SHARE = 4.0  # and for one that would be done before it can be timed
ROOT = Path(__file__).resolve().parent.parent.parent
# One process on one core: a thread pool of a numerical library would only fight over it.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Wire(StrEnum):
    """How events lie in the source topic."""

    JSON = "json"
    ARROW = "arrow"


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
    prepare: Callable[[Workload, Path], None]
    what: str  # for the table: whose it is, and which idiom
    module: str = ""  # what must be importable
    own_environment: str = ""  # in this virtual environment, not in ours
    needs_redis: bool = False
    wire: Wire = Wire.JSON
    share: float = 1.0  # of the events
    ends: bool = False  # exits when it has committed all, having no consumer group that could be asked

    def missing(self) -> str:
        """Why it cannot run here, in one sentence; empty where it can."""
        if self.own_environment and not own_python(self.own_environment).exists():
            return (
                f"{self.name} was not measured: it has an environment of its own, which is not there; "
                "`make bench-peers` makes it."
            )
        if not self.own_environment and self.module and importlib.util.find_spec(self.module) is None:
            return (
                f"{self.name} was not measured: {self.module} is not installed; "
                "`pip install -e '.[bench]' -c constraints.txt` installs it."
            )
        return ""


def own_python(name: str) -> Path:
    """The interpreter of a peer's own virtual environment, inside ours."""
    return Path(sys.prefix) / "peers" / name / "bin" / "python"


def _prepare_job(workload: Workload, folder: Path) -> None:
    workload.job.save(folder / "job.npz")


def _program(
    name: str, parser: str = "orjson", environment: str = "", *arguments: str
) -> Callable[[Lane, Path], Start]:
    """What starts `ops.bench.systems.<name>`, with our interpreter or with that of an environment of its own."""
    python = str(own_python(environment)) if environment else sys.executable

    def start(lane: Lane, shared: Path) -> Start:
        variables = {
            "BENCH_BOOTSTRAP": lane.bootstrap,
            "BENCH_GROUP": lane.group,
            "BENCH_SOURCE": lane.source,
            "BENCH_TAGS": lane.tags,
            "BENCH_JOB": str(shared / "job.npz"),
            "BENCH_FOLDER": str(lane.folder),
            "BENCH_PARSER": parser,
            "PYTHONPATH": str(ROOT),
        }
        return Start([python, "-m", f"ops.bench.systems.{name}", *arguments], variables)

    return start


def _prepare_tagstream(workload: Workload, folder: Path) -> None:
    """A model artefact whose `linear` network has the weights that every system has; `champion` starts a worker."""
    from ops.bench.networks import Network, publish

    publish(workload, Network.CHEAP, folder)


def start_worker(lane: Lane, shared: Path) -> Start:
    own = {"TAGSTREAM_MODELS_DIR": str(shared), "TAGSTREAM_METRICS_PORT": "0", "TAGSTREAM_DEVICE": "cpu"}
    executable = Path(sys.executable).with_name("tagstream")  # the command itself, as a person starts it
    return Start([str(executable), "worker"], lane.environment() | own)


FAUST_WORKER = ("worker", "--without-web", "-l", "warn")
PEERS: tuple[Peer, ...] = (
    Peer(
        BASELINE, _program("faust_take", "orjson", "", *FAUST_WORKER), _prepare_job, "Faust: take(512), send",
        share=SLOW_SHARE,
    ),
    Peer(
        "faust-per-event", _program("faust_event", "orjson", "", *FAUST_WORKER), _prepare_job, "Faust: event by event",
        share=SLOW_SHARE,
    ),
    Peer(
        "quix-apply", _program("quix_apply", environment="quix"), _prepare_job, "Quix Streams: apply, to_topic",
        "quixstreams", own_environment="quix", share=SLOW_SHARE,
    ),
    Peer(
        "quix-batches", _program("quix_batches", environment="quix"), _prepare_job, "Quix Streams: BatchingSink",
        "quixstreams", own_environment="quix",
    ),
    Peer(
        "bytewax", _program("bytewax_flow"), _prepare_job, "Bytewax: flat_map_batch, recovery store", "bytewax",
        ends=True,
    ),
    Peer(
        "pathway", _program("pathway_graph", environment="pathway"), _prepare_job,
        "Pathway: batched UDF; commits by itself, not at least once", "pathway", own_environment="pathway",
    ),
    Peer("aiokafka", _program("aiokafka_loop"), _prepare_job, "aiokafka: getmany, send_batch; orjson"),
    Peer("aiokafka-simdjson", _program("aiokafka_loop", "simdjson"), _prepare_job, "the same with pysimdjson"),
    Peer("confluent", _program("confluent_loop"), _prepare_job, "confluent-kafka by hand; orjson", "confluent_kafka"),
    Peer(
        "confluent-simdjson", _program("confluent_loop", "simdjson"), _prepare_job, "the same with pysimdjson",
        "confluent_kafka",
    ),
    Peer(
        "tagstream-json", start_worker, _prepare_tagstream, "a tagstream worker: all of the contract",
        needs_redis=True,
    ),
    Peer(
        "tagstream-arrow", start_worker, _prepare_tagstream, "the same, bulk lane", needs_redis=True,
        wire=Wire.ARROW, share=FAST_SHARE,
    ),
)  # fmt: skip
