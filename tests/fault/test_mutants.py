"""The laboratory is tested: workers that are broken on purpose are caught, each by the check that must see it.

Each scenario is played by a mutant (`mutants.py`) and by the real worker, which must pass it. What happens when is
in the test's hand, so nothing here is luck: the scorer waits, or fails, when it is told to. The scenarios have a
stream each and run side by side; the tests look at how each ended.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ops.local.services import Services
from ops.redecide import Redecisions
from tests.checker import Report
from tests.checks_content import effective, version_of
from tests.evidence import Kind, Violation
from tests.fault.mutants import MUTATIONS, PatchedWorker
from tests.harness import TUNED, Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(300)]

AT_ONCE = 3  # scenarios side by side
EVENTS = 60  # fewer than a micro-batch holds
TRACKS = 20
WITHDRAW_EVERY = 7
MOVED_TAGS = 100  # of 200
SAMPLES = 8  # a quarter of a second each: several commit intervals
LONG_LINGER_S = 10.0
EXIT_S = 30.0
PATIENCE_S = 60.0


class Scene:
    """A stream and one worker of it after another; what is played there."""

    def __init__(self, stream: Stream, mutation: str) -> None:
        self.stream = stream
        self._mutation = mutation
        self._tuned = dict.fromkeys(stream.layout.tags, TUNED)
        self._written = {version_of(effective(self._tuned, {}))}

    def worker(self, name: str, *, mutation: str = "", **more: object) -> PatchedWorker:
        """A patched worker, ready and alone."""
        worker = self.begin(name, mutation or self._mutation, **more)
        worker.wait_ready()
        self.stream.wait_assigned(name)
        return worker

    def begin(self, name: str, mutation: str, **more: object) -> PatchedWorker:
        """A patched worker that starts."""
        folder = self.stream.folder / f"worker-{name}"
        worker = PatchedWorker(name, {**self.stream.worker_settings, **more}, folder=folder)
        worker.mutation = mutation
        self.stream.workers[name] = worker
        worker.start()
        return worker

    def produce(self) -> None:
        """Some events of few tracks, with a withdrawal now and then."""
        self.stream.load(EVENTS, tracks=TRACKS, withdraw_every=WITHDRAW_EVERY).finish()

    def hold_some(self, worker: PatchedWorker) -> None:
        """Produce, and leave some of it in this worker's scorer."""
        entered = worker.count("entered")
        worker.order("hold")
        self.produce()
        self._until(lambda: worker.count("entered") > entered, "events are in the scorer")

    def committed(self) -> int:
        """How far the group was, all partitions together, when it was seen last."""
        samples = self.stream.sampler.samples
        return sum(samples[-1][0].values()) if samples else 0

    def judge(self) -> Report:
        """The whole stream, against all that was written here too."""
        return self.stream.verify(written=self._written)

    @staticmethod
    def _until(what: Callable[[], object], saying: str) -> None:
        eventually(what, PATIENCE_S, saying)

    # What is played

    def slow_scorer(self, worker: PatchedWorker) -> None:
        """Nothing may be committed while nothing can have been published."""
        self.stream.settle()
        self.stream.sampler.sample_once()
        before, samples = self.committed(), self.stream.sampler.samples
        self.hold_some(worker)
        seen = len(samples)
        self._until(lambda: self.committed() > before or len(samples) >= seen + SAMPLES, "commits were watched")
        worker.order("hold", wanted=False)

    def revoked_with_a_partial_batch(self, worker: PatchedWorker) -> None:
        """SIGTERM while a micro-batch, which has long to wait, is not full."""
        entered, taken = worker.count("entered"), worker.count("taken")
        self.produce()
        self._until(lambda: worker.count("taken") == taken + EVENTS, f"{worker.title} takes {EVENTS} events")
        assert worker.count("entered") == entered, "the partial batch did not wait"
        worker.terminate(EXIT_S)
        assert worker.exit_code == 0, f"{worker.title} ended with {worker.exit_code}"

    def refused_table(self, worker: PatchedWorker) -> None:
        """A threshold beyond 1 is written, and later mended."""
        stream, tag = self.stream, self.stream.layout.tags[3]
        live, before = stream.keys.live(stream.artefacts.first), worker.health()["thresholds"]
        stream.redis.hset(live, tag, "1.5")
        self._until(
            lambda: stream.heartbeat(worker.name).get("refusal") or worker.health().get("thresholds") != before,
            "the table is refused, or used",
        )
        self.produce()
        stream.settle()
        stream.redis.hset(live, tag, str(TUNED))
        self._until(lambda: not stream.heartbeat(worker.name).get("refusal"), "the refusal is taken back")

    def redecided(self, worker: PatchedWorker) -> None:
        """Thresholds change and the past is re-decided; between comparing and publishing some have newer events."""
        stream, before = self.stream, worker.health()["thresholds"]
        self.produce()
        stream.settle()
        changed = dict.fromkeys(stream.layout.tags[:MOVED_TAGS], "0.25")
        self._written.add(version_of(effective(self._tuned, changed)))
        stream.redis.hset(stream.keys.live(stream.artefacts.first), mapping=changed)
        self._until(lambda: worker.health().get("thresholds") != before, "the change is obeyed")
        worker.order("hold-walk")
        runs = Redecisions(stream.settings)
        run = runs.begin(runs.look_up(), "", dry_run=False)
        self._until(lambda: worker.count("compared"), "tracks are compared")
        stream.load(TRACKS // 2, tracks=TRACKS).finish()
        stream.settle()
        worker.order("hold-walk", wanted=False)
        assert runs.follow(run, lambda _: None).counts.changed > 0

    def failing_scorer(self, worker: PatchedWorker) -> None:
        """The scorer fails once. A worker that ends is followed by a real one."""
        self.stream.settle()
        worker.order("explode")
        self.produce()
        self._until(lambda: worker.obeyed("explode"), "the scorer has failed")
        self._until(lambda: not worker.is_running() or not self.stream.lag(), f"{worker.title} ends, or goes on")
        if not worker.is_running():
            self.worker("after-the-failure", mutation="real")
        self.stream.settle()

    def zombie(self, worker: PatchedWorker) -> PatchedWorker:
        """Frozen with events in its scorer until another has them and newer ones of their tracks, then thawed.

        Only what it had then may leave its scorer: it may have read the newer ones too, before it hears that they are
        no longer its own, and by them its last decisions would be the right ones again. So it is ended after that.
        """
        self.hold_some(worker)
        released = worker.count("released")
        worker.pause()
        successor = self.begin("successor", "real")
        successor.wait_ready()
        self.stream.wait_assigned(successor.name)
        self.produce()
        self.stream.settle()
        worker.order("let-one")
        worker.resume()
        self._until(
            lambda: not worker.is_running() or worker.count("released") > released, f"{worker.title} is done with it"
        )
        worker.kill()
        return successor


def alone(play: Callable[[Scene, PatchedWorker], object], **more: object) -> Callable[[Scene], Report]:
    """A scenario for a single worker."""

    def scenario(scene: Scene) -> Report:
        play(scene, scene.worker("a", **more))
        return scene.judge()

    return scenario


def all_of_them(scene: Scene) -> Report:
    """Every scenario in one stream, for the real worker and its successors."""
    first = scene.worker("a")
    scene.slow_scorer(first)
    scene.refused_table(first)
    scene.redecided(first)
    successor = scene.zombie(first)
    scene.failing_scorer(successor)
    for worker in scene.stream.workers.values():
        if worker.is_running():
            worker.terminate(EXIT_S)
    scene.revoked_with_a_partial_batch(scene.worker("last", linger_s=LONG_LINGER_S))
    return scene.judge()


CAUGHT: dict[str, tuple[Callable[[Scene], Report], Kind]] = {
    "publishes_over_its_successor": (alone(Scene.zombie), Kind.NOT_NEWEST),
    "commits_before_the_acknowledgements": (alone(Scene.slow_scorer), Kind.COMMITTED_EARLY),
    "drops_the_partial_batch": (
        alone(Scene.revoked_with_a_partial_batch, linger_s=LONG_LINGER_S),
        Kind.LOST,
    ),
    "clamps_a_refused_threshold": (alone(Scene.refused_table), Kind.UNWRITTEN_TABLE),
    "takes_a_refused_threshold": (alone(Scene.refused_table), Kind.BAD_TABLE),
    "publishes_zeros_for_an_exception": (alone(Scene.failing_scorer), Kind.WRONG_SCORES),
    "skips_the_batch_of_an_exception": (alone(Scene.failing_scorer), Kind.LOST),
    "redecides_what_is_not_the_newest": (alone(Scene.redecided), Kind.OUT_OF_ORDER),
}


@pytest.fixture(scope="module")
def played(
    services: Services, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, "Future[Report]"]]:
    """How each scenario ends; only those that a selected test asks about are played."""
    folder = tmp_path_factory.mktemp("mutants")

    def play(name: str) -> Report:
        scenario = all_of_them if name == "real" else CAUGHT[name][0]
        stream = Stream(services.kafka_bootstrap, services.redis_url, folder / name, artefacts)
        try:
            return scenario(Scene(stream, name))
        finally:
            stream.close()

    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.fspath == request.path and hasattr(item, "callspec")
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, name) for name in ["real", *CAUGHT] if name in asked}


def test_every_mutation_is_played():
    assert set(CAUGHT) == set(MUTATIONS)


@pytest.mark.parametrize("name", ["real"])
def test_the_real_worker_passes_every_scenario(played: dict[str, "Future[Report]"], name: str):
    report = played[name].result()
    assert report.inputs == EVENTS * 7 + TRACKS // 2 and report.withdrawn and report.dead and report.redecided
    assert len(report.turns(0)) == 2, "before the change of thresholds, and after it"
    print(report.line())


@pytest.mark.parametrize("name", CAUGHT)
def test_a_mutant_is_caught(played: dict[str, "Future[Report]"], name: str):
    caught = played[name].exception()
    print(caught)
    assert isinstance(caught, Violation), f"{name} ended with {caught!r}"
    assert caught.kind is CAUGHT[name][1], caught
