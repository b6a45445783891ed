"""Workers broken on purpose, for the tests of the tests: each run as a real process, and each must be caught.

`python mutants.py NAME` runs a real worker with one of `MUTATIONS` in it; `real` has none. All of them obey files in
their working folder, so that a test decides what happens when: while `hold` exists the scorer waits, `let-one` lets
one micro-batch pass all the same, `explode` makes it fail once, `hold-walk` keeps a re-decide between comparing and
publishing; how many records were taken, micro-batches scored and let go of, and blocks compared, can be read off the
lengths of `taken`, `entered`, `released` and `compared`.

A mutation replaces few functions of the product by name. Where the product has renamed one, its worker ends at once
with an AttributeError; where the product no longer calls one, its test fails because nothing was caught.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np

from ops.local.worker import WorkerProcess
from streamer.adapters.torch_scorer import TorchScorer
from streamer.agents import run_worker
from streamer.core import thresholds
from streamer.core.lease import Lease, Standing
from streamer.core.thresholds import BadThreshold
from streamer.core.watermark import Watermark
from streamer.pipeline import Pipeline
from streamer.redecide_walk import Walk
from streamer.settings import load_settings

POLL_S = 0.02


class PatchedWorker(WorkerProcess):
    """A worker with a mutation, and its test's hand on it."""

    mutation = "real"

    def command(self) -> list[str]:
        return [sys.executable, __file__, self.mutation]

    def environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[2])
        return {**super().environment(), "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}

    def order(self, name: str, *, wanted: bool = True) -> None:
        """`hold`, `let-one`, `explode` or `hold-walk`, or no longer."""
        (self.folder / name).touch() if wanted else (self.folder / name).unlink()

    def obeyed(self, name: str) -> bool:
        """Whether an order that is carried out once was."""
        return not (self.folder / name).exists()

    def count(self, name: str) -> int:
        """How many it has `taken`, `entered`, `released` or `compared`."""
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0


# The test's hand -----------------------------------------------------------------------------------------------------


def note(name: str, count: int = 1) -> None:
    """Make a file so much longer."""
    with open(name, "ab") as file:
        file.write(b"." * count)


def obey() -> None:
    """Let the files of the working folder decide."""
    score, decode, release, publish = TorchScorer.score, Pipeline._decode, Pipeline._release, Walk._publish

    def score_when_told(self, probabilities):
        note("entered")
        while os.path.exists("hold") and not os.path.exists("let-one"):
            time.sleep(POLL_S)
        if os.path.exists("let-one"):
            os.remove("let-one")
        if os.path.exists("explode"):
            os.remove("explode")
            raise RuntimeError("the scorer was told to fail")
        return score(self, probabilities)

    def decode_and_count(self, micro, partition, records):
        taken, rest = decode(self, micro, partition, records)
        note("taken", taken)
        return taken, rest

    def release_and_count(self, flight):
        release(self, flight)
        note("released")

    async def publish_when_told(self, changes, counts):
        note("compared")
        while os.path.exists("hold-walk"):
            await asyncio.sleep(POLL_S)
        await publish(self, changes, counts)

    TorchScorer.score, Pipeline._decode, Pipeline._release = score_when_told, decode_and_count, release_and_count
    Walk._publish = publish_when_told


# The mutations -------------------------------------------------------------------------------------------------------


def commits_before_the_acknowledgements() -> None:
    """What is dispatched may be committed at once."""
    open_ = Watermark.open

    def open_and_acknowledge(self, next_offset):
        ticket = open_(self, next_offset)
        self.acknowledge(ticket)
        return ticket

    Watermark.open = open_and_acknowledge


def drops_the_partial_batch() -> None:
    """At a revocation the micro-batch that is not full yet is committed, and forgotten."""
    drain = Pipeline.drain

    async def drop_and_drain(self, timeout_s):
        micro, self._open = self._open, None
        for span in micro.spans if micro is not None else ():
            mark = self._watermarks.setdefault(span.partition, Watermark())
            mark.acknowledge(mark.open(span.next_offset))
        return await drain(self, timeout_s)

    Pipeline.drain = drop_and_drain


def clamps_a_refused_threshold() -> None:
    """A threshold that is none becomes 1, and the table is used."""
    _forgive(lambda value: "1.000000")


def takes_a_refused_threshold() -> None:
    """A threshold that is none is used as it is."""
    _forgive(lambda value: f"{float(value):.6f}")


def _forgive(mend) -> None:
    text_of = thresholds.threshold_text

    def forgiving(tag, value):
        try:
            return text_of(tag, value)
        except BadThreshold:
            return mend(value)

    thresholds.threshold_text = forgiving


def publishes_zeros_for_an_exception() -> None:
    """A scorer that fails is taken for one that finds nothing."""
    score = Pipeline._score

    async def swallow(self, serving, probabilities):
        try:
            return await score(self, serving, probabilities)
        except RuntimeError:
            return np.zeros((len(probabilities), self._layout.n_tags), np.float16)

    Pipeline._score = swallow


def skips_the_batch_of_an_exception() -> None:
    """A batch whose scorer fails is acknowledged without outputs."""
    score, publish = Pipeline._score, Pipeline._publish

    async def swallow(self, serving, probabilities):
        try:
            return await score(self, serving, probabilities)
        except RuntimeError:
            return np.full((len(probabilities), self._layout.n_tags), np.nan, np.float16)

    async def publish_what_is_there(self, span, stamp, decisions, scores, flight):
        if any(np.isnan(np.frombuffer(one or b"", "<f2")).any() for one in scores):
            return []
        return await publish(self, span, stamp, decisions, scores, flight)

    Pipeline._score, Pipeline._publish = swallow, publish_what_is_there


def publishes_over_its_successor() -> None:
    """Takes its partitions for its own whatever the group says; the epoch alone does not hold it back."""
    assert callable(Lease.standing)
    Lease.standing = lambda self, now_s: Standing.HELD


def redecides_what_is_not_the_newest() -> None:
    """Pays no heed to what the stream has handed over since it compared."""
    assert callable(Walk._hear)
    Walk._hear = lambda self, partition, keys: None


MUTATIONS = {
    mutation.__name__: mutation
    for mutation in (
        commits_before_the_acknowledgements,
        drops_the_partial_batch,
        clamps_a_refused_threshold,
        takes_a_refused_threshold,
        publishes_zeros_for_an_exception,
        skips_the_batch_of_an_exception,
        publishes_over_its_successor,
        redecides_what_is_not_the_newest,
    )
}

if __name__ == "__main__":
    obey()
    if sys.argv[1] != "real":
        MUTATIONS[sys.argv[1]]()
    run_worker(load_settings())
