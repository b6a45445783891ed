"""`bench memory`: resident memory under overload, and while a backlog drains, on a real worker and a real Kafka.

Overload: the scorer is slowed to N tracks a second and ten times N are produced; memory must be flat, the lag must
grow and, with the scorer at its own speed again, drain to nothing, without a rebalance. Backlog: gigabytes of
events are in the log before the worker starts. In both every event must have come out exactly once.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ops.bench.flatness import Trend, memory_trend
from ops.bench.memory_scene import Sample, Scene
from ops.errors import OpsError
from streamer.adapters.bounded_poll import POLL_BYTES
from streamer.agents import CHANNEL_RECORD_BATCHES, FETCH_BYTES
from streamer.pipeline import IN_FLIGHT_MICRO_BATCHES

MIB = 1 << 20
GIB = 1 << 30
OVERLOAD = 10  # times what the scorer carries
ENOUGH = 0.95  # of the load must really have been produced
READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 1_200.0
EXIT_S = 30.0
AFTER_S = 5.0
FILLING_MIB = 200
STEADY_SAMPLE_S = 0.5
BRISK_SAMPLE_S = 0.2  # while seconds count
# What a polled event takes in Python, by the bytes of its value: 2.1 KB, and 0.8 around them.
UNPACKED_FACTOR = 1.4
# Of one event in flight: the event, its decision and scores with their headers, and the producer's copy.
IN_FLIGHT_MIB = 12_000 / MIB
PROCESS_MIB = 64.0  # what the allocator and numpy's and torch's first batches add to a worker that has done nothing

# Of a backlog's draining, after which its memory is judged: beside other work it is luck when the consumer is so far
# ahead that every buffer on the way is full. What leaks with each event does so in the rest, too.
FILLED_SHARE = 0.5

OnProgress = Callable[[str, int, int], None]  # what is under way, how far, of how many


@dataclass
class MemoryRun:
    """One run's samples and what was concluded; `failures` is empty where all of it holds."""

    name: str
    partitions: int
    samples: list[Sample]
    figures: dict[str, Any]
    failures: list[str] = field(default_factory=list)

    def as_report(self) -> dict[str, Any]:
        """What `--json` prints."""
        return asdict(self)


def bound_mib(partitions: int, batch_max: int) -> float:
    """What a worker may hold above its idle size with events of the load's kind.

    Compressed: one fetch per partition, and one answer of the broker on its way. Decompressed: the polls in the
    channel, the one with the agent, the one that waits for room. And the micro-batches in flight.
    """
    compressed = 2 * partitions * FETCH_BYTES / MIB
    decompressed = (CHANNEL_RECORD_BATCHES + 2) * UNPACKED_FACTOR * POLL_BYTES / MIB
    in_flight = IN_FLIGHT_MICRO_BATCHES * batch_max * IN_FLIGHT_MIB
    return PROCESS_MIB + compressed + decompressed + in_flight


def run_overload(minutes: float, carries_per_s: float, partitions: int, on_progress: OnProgress) -> MemoryRun:
    """A scorer that carries `carries_per_s` under ten times as much, for so long; then at its own speed to the end."""
    seconds = minutes * 60
    with Scene(partitions) as scene:
        idle_mib = _start(scene, on_progress)
        scene.slow(carries_per_s)
        scene.preload(FILLING_MIB * MIB)  # every buffer on the way is full from the start, not after minutes
        filled = scene.produced
        producer = scene.load(OVERLOAD * carries_per_s, seconds)

        def over(sample: Sample) -> bool:
            on_progress("overload, seconds", int(sample.at_s - began_s), int(seconds))
            return not producer.is_alive()

        began_s = scene.now_s()
        loaded = scene.watch("overload", over, seconds + 120, STEADY_SAMPLE_S)
        most_lag = loaded[-1].lag
        scene.slow(None)
        drained = scene.watch("drain", _drain_progress(on_progress, most_lag), DRAIN_TIMEOUT_S, BRISK_SAMPLE_S)
        _after(scene)
        trend = _trend(loaded, max(0.2 * seconds, min(60.0, 0.5 * seconds)))
        run = _finish(scene, "overload", idle_mib, trend)
    run.figures |= {
        "minutes": minutes,
        "carries_per_s": carries_per_s,
        "load_per_s": (scene.produced - filled) / seconds,
        "lag_at_the_end_of_the_load": most_lag,
        "drained_in_s": drained[-1].at_s - drained[0].at_s,
        "overload_max_mib": max(sample.rss_mib for sample in loaded),
    }
    sent, wanted = scene.produced - filled, ENOUGH * OVERLOAD * carries_per_s * seconds
    if sent < wanted or most_lag < loaded[0].lag:
        run.failures.append(
            f"no overload: {sent:,} events in the time, {wanted:,.0f} were wanted: this machine cannot produce "
            f"{OVERLOAD * carries_per_s:,.0f} a second beside all else, so lower --carries"
        )
    return run


def run_backlog(gigabytes: float, partitions: int, on_progress: OnProgress) -> MemoryRun:
    """`gigabytes` of events in the log, then a worker, until all of it is committed."""
    with Scene(partitions) as scene:
        idle_mib = _start(scene, on_progress)
        scene.worker.terminate(EXIT_S)
        raw_bytes = int(gigabytes * GIB)
        scene.preload(raw_bytes, lambda done: on_progress("preloading, MiB", done // MIB, raw_bytes // MIB))
        log_mib = scene.log_mib()
        scene.worker.start()
        scene.worker.wait_ready(READY_TIMEOUT_S)
        drained = scene.watch("drain", _drain_progress(on_progress, scene.produced), DRAIN_TIMEOUT_S, BRISK_SAMPLE_S)
        _after(scene)
        seconds = drained[-1].at_s - drained[0].at_s
        run = _finish(scene, "backlog", idle_mib, _trend(drained, FILLED_SHARE * seconds))
    run.figures |= {"gigabytes": gigabytes, "log_mib": log_mib, "drained_in_s": seconds}
    return run


def _start(scene: Scene, on_progress: OnProgress) -> float:
    """Start the worker on empty topics: its resident set when it has nothing to do."""
    on_progress("starting", 0, 1)
    scene.worker.start()
    scene.worker.wait_ready(READY_TIMEOUT_S)
    return max(sample.rss_mib for sample in _idle(scene, "idle", AFTER_S / 2))


def _idle(scene: Scene, phase: str, seconds: float) -> list[Sample]:
    until_s = scene.now_s() + seconds
    return scene.watch(phase, lambda sample: sample.at_s >= until_s, seconds + 30, BRISK_SAMPLE_S)


def _after(scene: Scene) -> None:
    _idle(scene, "after", AFTER_S)


def _drain_progress(on_progress: OnProgress, total: int) -> Callable[[Sample], bool]:
    def drained(sample: Sample) -> bool:
        on_progress("draining, events", total - sample.lag, total)
        return sample.lag == 0

    return drained


def _trend(samples: Sequence[Sample], warm_up_s: float) -> Trend:
    return memory_trend([sample.at_s for sample in samples], [sample.rss_mib for sample in samples], warm_up_s)


def _finish(scene: Scene, name: str, idle_mib: float, trend: Trend) -> MemoryRun:
    """End the worker and judge what both kinds of runs have in common."""
    joined, complaints, outputs = scene.joins_of_this_start(), scene.complaints(), scene.outputs()
    scene.worker.terminate(EXIT_S)
    if scene.worker.exit_code != 0:
        raise OpsError(f"the worker exited with {scene.worker.exit_code} at SIGTERM, not 0.")
    bound = bound_mib(scene.partitions, scene.settings.batch_max)
    most_mib = max(sample.rss_mib for sample in scene.samples)
    failures = []
    if not trend.flat:
        failures.append(f"memory is not flat: {trend}")
    if most_mib - idle_mib > bound:
        failures.append(f"memory rose {most_mib - idle_mib:.0f} MiB above idle, at most {bound:.0f} were stated")
    if len(joined) != 1 or complaints:
        failures.append(f"the group was joined {len(joined)} times instead of once: {complaints[-3:]}")
    if outputs != scene.produced:
        failures.append(f"{scene.produced:,} events went in, {outputs:,} decisions came out")
    figures = {
        "events": scene.produced,
        "outputs": outputs,
        "idle_mib": idle_mib,
        "max_mib": most_mib,
        "above_idle_mib": most_mib - idle_mib,
        "bound_above_idle_mib": bound,
        "trend": asdict(trend) | {"flat": trend.flat},
        "joins": len(joined),
        "heartbeat_complaints": len(complaints),
    }
    return MemoryRun(name, scene.partitions, scene.samples, figures, failures)
