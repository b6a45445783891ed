"""How fast work beside the stream may go, by a clock of the test's own."""

import numpy as np

from streamer.core.pace import LEAST_SHARE, MOST_SHARE, SHORTEST_REST_S, WINDOW_S, WORK_WINDOWS, Pace

PIECE_S = 0.004
BATCH_EVERY_S = 0.02


class Scene:
    """A worker's loop: pieces of work and rests; the stream tells so many latencies a second."""

    def __init__(self, quiet_s: float | None, slower: float = 0.0) -> None:
        self.now_s = 100.0
        self.pace = Pace(self.now_s)
        self.quiet_s, self.slower = quiet_s, slower  # p99 without work, and what a share of 1 would add to it
        self.worked_s = 0.0
        self._owed_s = 0.0
        self._load = 0.0

    def live(self, seconds: float) -> None:
        """Time passes; the stream decides, slower the more was worked just before."""
        while seconds > 0:
            step_s = min(BATCH_EVERY_S, seconds)
            seconds -= step_s
            self.now_s += step_s
            self._owed_s += step_s
            if self._owed_s >= BATCH_EVERY_S and self.quiet_s is not None:
                self._owed_s -= BATCH_EVERY_S
                latency_s = self.quiet_s * (1 + self.slower * self._load)
                self.pace.observe(np.full(20, latency_s), self.now_s)

    def run(self, seconds: float) -> float:
        """Work for so long; the share of time that was worked."""
        until_s, before_s = self.now_s + seconds, self.worked_s
        while self.now_s < until_s:
            self.live(PIECE_S)
            self.worked_s += PIECE_S
            rest_s = self.pace.rest_s(PIECE_S, self.now_s)
            self._load = PIECE_S / (PIECE_S + rest_s)
            if rest_s > 0.5:  # nothing for the rest of this window
                self._load = 0.0
            self.live(rest_s)
        return (self.worked_s - before_s) / seconds


def test_alone_it_hardly_rests():
    scene = Scene(None)
    assert scene.run(5) > 0.85
    assert scene.pace.baseline_s is None and scene.pace.rest_s(PIECE_S, scene.now_s) == SHORTEST_REST_S


def test_it_grows_where_it_costs_nothing():
    scene = Scene(0.03)
    scene.live(2)
    assert 0.02 < (scene.pace.baseline_s or 0) < 0.04
    scene.run(40)
    assert scene.pace.share == MOST_SHARE


def test_it_gives_way_where_the_stream_suffers():
    scene = Scene(0.03, slower=4.0)  # at a share of 0.125 latency is half as long again
    scene.live(2)
    scene.run(40)
    share = scene.run(40)
    assert LEAST_SHARE < scene.pace.share < 0.2 and 0.01 < share < 0.2


def test_one_window_in_a_few_is_without_work():
    scene = Scene(0.03)
    scene.live(2)
    rests = []
    for _ in range(3000):
        rest_s = scene.pace.rest_s(PIECE_S, scene.now_s)
        rests += [rest_s] if rest_s > 0.1 else []
        scene.live(PIECE_S + rest_s)
    seconds = scene.now_s - 102
    assert seconds / (WORK_WINDOWS + 1) / WINDOW_S * 0.7 < len(rests) < seconds / (WORK_WINDOWS + 1) / WINDOW_S * 1.3


def test_a_stream_that_begins_is_given_way_to():
    scene = Scene(None)
    scene.run(3)
    scene.quiet_s = 0.03
    scene.run(4)
    assert scene.pace.baseline_s is not None and scene.pace.share < 1


def test_a_stream_that_ends_frees_it():
    scene = Scene(0.03)
    scene.live(2)
    scene.quiet_s = None
    scene.run(3)
    assert scene.pace.baseline_s is None
