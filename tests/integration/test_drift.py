"""Drift on a real stream: nothing, other thresholds, other inputs, another model, told from each other."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from ops.kafka_io import Event, event_json
from ops.thresholds_admin import ThresholdsAdmin
from tests.harness import Stream
from tests.references import add_reference, random_rows

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS = 1200
TRAINED_ON = 4000


class Scene:
    """Phases of a stream, each with its own tracks, and what the command says of the newest."""

    def __init__(self, stream: Stream, run) -> None:
        self.stream, self._run = stream, run
        self._phases = 0

    def phase(self, rows: NDArray[np.float64], *more: str) -> dict:
        """Stream these events, and ask about them alone."""
        stream, self._phases = self.stream, self._phases + 1
        time.sleep(0.002)  # the phase before has no track in this millisecond
        since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

        def events(_stopping) -> Iterator[Event]:
            for number, row in enumerate(rows):
                track = f"P{self._phases}-{number:06d}"
                yield track.encode(), event_json(stream.layout, track, row), ()

        stream.send(events).finish()
        stream.settle()
        return self.report("--since", since, "--windows", "1", *more)

    def report(self, *words: str) -> dict:
        """What the command says, as JSON."""
        code, out, err = self._run("thresholds", "drift", *words, "--json")
        assert code == 0, err
        return json.loads(out)


def moved(report: dict) -> dict[str, list[str]]:
    return {one["tag"]: one["causes"] for one in report["tags"] if one["causes"]}


@pytest.fixture
def scene(stream: Stream, monkeypatch, tmp_path, run) -> Scene:
    """One worker that serves a model with a reference, and the commands beside it."""
    known = random_rows(TRAINED_ON, stream.layout.n_inputs, seed=1)
    add_reference(stream.models_dir / stream.artefacts.first, known)
    add_reference(stream.install(stream.artefacts.second), known)
    ThresholdsAdmin(stream.settings, "tester").promote(stream.artefacts.first, "first")
    for name, value in stream.worker_settings.items():
        monkeypatch.setenv(f"TAGSTREAM_{name.upper()}", str(value))
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path / "cache"))
    stream.start("a")
    return Scene(stream, run)


def test_each_cause_is_told_from_the_others(scene: Scene, run, tmp_path):
    stream, n_inputs = scene.stream, scene.stream.layout.n_inputs
    began = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    first, second = stream.layout.tags[3], stream.layout.tags[150]

    report = scene.phase(random_rows(TRACKS, n_inputs, seed=2))
    assert moved(report) == {} and report["inputs"] == [], "no false alarm"
    assert report["windows"][0]["tracks"] == report["windows"][0]["sampled"] == TRACKS and report["notes"] == []

    admin = ThresholdsAdmin(stream.settings, "tester")
    tuned = admin.live().table.version
    code, _, err = run("thresholds", "set", f"{first}=0.7", f"{second}=off", "--why", "drift", "--json")
    assert code == 0, err
    report = scene.phase(random_rows(TRACKS, n_inputs, seed=3))
    assert moved(report) == {first: ["thresholds"], second: ["thresholds"]}, "only what was edited"
    assert run("thresholds", "rollback", tuned, "--why", "over", "--json")[0] == 0

    rows = random_rows(TRACKS, n_inputs, seed=4)
    rows[:, 3] = np.sqrt(rows[:, 3])  # upstream is surer of one tag
    report = scene.phase(rows)
    causes = moved(report)
    assert causes[first] == ["inputs"] and {tuple(mine) for mine in causes.values()} == {("inputs",)}
    assert [one["name"].split()[1] for one in report["inputs"]] == [first]

    admin.promote(stream.artefacts.second, "another")
    report = scene.phase(random_rows(TRACKS, n_inputs, seed=5), "--base", stream.artefacts.first)
    causes = moved(report)
    assert len(causes) > 10 and {tuple(mine) for mine in causes.values()} == {("model",)} and report["inputs"] == []

    picture = tmp_path / "drift.png"
    code, out, err = run("thresholds", "drift", "--since", began, "--windows", "3", "--picture", picture)
    assert code == 0 and picture.read_bytes().startswith(b"\x89PNG") and "tags have moved" in out, err
    assert stream.artefacts.first in out and "model" in out


def test_what_cannot_be_told_is_said(scene: Scene, run):
    stream, n_inputs = scene.stream, scene.stream.layout.n_inputs

    def refused(*words: str) -> str:
        code, out, err = run("thresholds", "drift", *words)
        assert code == 1 and not out and "Traceback" not in err
        return err

    assert "no retained scores" in refused()
    add_reference(stream.models_dir / stream.artefacts.first, random_rows(TRAINED_ON, n_inputs, seed=1), inputs=False)
    report = scene.phase(random_rows(600, n_inputs, seed=2))
    assert "older trainer" in report["notes"][0] and moved(report) == {}
    assert "the newest window has" in refused("--windows", "50")
    assert "the nearest" in refused("genres-t1x")
    assert "neither .png nor .svg" in refused("--picture", "drift.gif")
    assert "no tag has moved" in run("thresholds", "drift", "--windows", "1")[1].lower()
    (stream.models_dir / stream.artefacts.first / "curves.json").unlink()
    assert "drift is measured against what a model was tuned on" in refused()
