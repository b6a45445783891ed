"""`models promote`, `rollback` and `history` on a real Redis: who takes the champion's place, and the way back."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from model import artifact
from model.errors import ModelError
from model.intervals import RESAMPLES
from model.registry import Registry
from ops import promotion
from ops.cli import main as cli
from ops.errors import OpsError
from ops.thresholds_admin import ThresholdsAdmin
from tests.harness import Artefacts, Stream, a_vocabulary
from tests.model_data import SMALL, make_dataset, write_dataset

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk(services, artefacts: Artefacts, tmp_path) -> Iterator[Stream]:
    """Two models of one vocabulary and one of another; the first is active. Nothing streams."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    for version in (artefacts.first, artefacts.second, artefacts.foreign):
        stream.install(version)
    ThresholdsAdmin(stream.settings, "test").promote(artefacts.first, "first")
    yield stream
    stream.redis.close()


@pytest.fixture
def empty_desk(services, artefacts: Artefacts, tmp_path) -> Iterator[Stream]:
    """No model at all."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    stream.models_dir.mkdir()
    yield stream
    stream.redis.close()


@pytest.fixture
def run(request, monkeypatch, capsys) -> Run:
    """Run one command of `models`; returns exit code, stdout, stderr."""
    name = "desk" if "desk" in request.fixturenames else "empty_desk"
    for setting, value in request.getfixturevalue(name).worker_settings.items():
        monkeypatch.setenv(f"TAGSTREAM_{setting.upper()}", str(value))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tagstream", "models", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def state(desk: Stream) -> tuple[str | None, str | None]:
    """What Redis and what the alias name."""
    return desk.redis.get(desk.keys.model), Registry(desk.models_dir).aliases().get("champion")


def measured(desk: Stream, seed: int, f1: float, **more: Any) -> str:
    """A model whose manifest says how good it was on a reported split."""
    drawn = (f1 + 0.01 * np.random.default_rng(0).normal(size=RESAMPLES)).tolist()
    figures = {"tracks": 1000, "weighted_f1": f1, "fingerprint": "the split", "resamples": drawn, **more}
    words = a_vocabulary()
    golden = np.random.default_rng(seed).random((4, words.n_inputs), dtype=np.float32)
    return artifact.write(
        artifact.fixed_network(words, seed=seed),
        words,
        dict.fromkeys(words.tags, 0.5),
        desk.models_dir,
        golden_inputs=golden,
        about={"metrics": {"valid": figures}},
    )


def test_another_vocabulary_is_refused_where_one_is_active(desk: Stream, artefacts: Artefacts):
    admin = ThresholdsAdmin(desk.settings, "test")
    with pytest.raises(OpsError, match=f"{artefacts.foreign}.*of its own"):
        admin.promote(artefacts.foreign, "by mistake")
    assert desk.redis.get(desk.keys.model) == artefacts.first
    assert not desk.redis.exists(desk.keys.live(artefacts.foreign), desk.keys.history(artefacts.foreign))
    assert admin.promote(artefacts.second, "same vocabulary").before == artefacts.first


def test_an_active_model_whose_artefact_is_gone_stands_in_nobodys_way(desk: Stream, artefacts: Artefacts, run: Run):
    desk.redis.set(desk.keys.model, "20200101T000000Z-00000000")
    code, out, err = run("promote", artefacts.first, "--no-wait", "--json")
    assert code == 0 and json.loads(out)["comparison"] is None and "its manifest cannot be" in err
    assert state(desk) == (artefacts.first, artefacts.first)


def test_there_and_back_and_what_the_history_says(desk: Stream, artefacts: Artefacts, run: Run):
    third = measured(desk, 8, 0.5)
    for version in (artefacts.second, third):
        assert run("promote", version, "--why", f"try {version}", "--no-wait")[0] == 0
    edited = ThresholdsAdmin(desk.settings, "test")
    tag = a_vocabulary().tags[0]
    edited.change(edited.live(artefacts.second), {tag: "0.123"}, "an edit that must survive")

    code, out, _ = run("rollback", "--why", "too many moods", "--no-wait", "--json")
    assert code == 0 and (json.loads(out)["model"], json.loads(out)["before"]) == (artefacts.second, third)
    assert state(desk) == (artefacts.second, artefacts.second)
    assert desk.redis.hget(desk.keys.live(artefacts.second), tag) == "0.123000"
    last = desk.redis.xrevrange(desk.keys.history(artefacts.second), count=1)[0][1]
    assert (last["action"], last["why"]) == ("rollback", "too many moods")

    assert run("rollback", "--no-wait")[0] == 0  # once more: one further back, not forward again
    assert state(desk) == (artefacts.first, artefacts.first)
    code, out, err = run("rollback", "--no-wait", "--json")
    assert code == 1 and out == "" and "nothing to roll back to" in err and len(err.splitlines()) == 1

    code, out, _ = run("history", "--json")
    found = json.loads(out)["periods"]
    assert [entry["model"] for entry in found] == [
        artefacts.first, artefacts.second, third, artefacts.second, artefacts.first
    ]  # fmt: skip
    assert found[3]["why"] == "too many moods" and found[4]["why"] == f"back from {artefacts.second}"
    assert found[4]["until"] is None and found[0]["who"] == "test"
    code, out, _ = run("history", "--on", found[4]["since"][:10], "--json")
    assert code == 0 and json.loads(out)["periods"][-1]["model"] == artefacts.first
    code, out, _ = run("history", "--on", "2020-01-01")
    assert code == 0 and out == "champion named no version on 2020-01-01\n"
    code, out, _ = run("history")
    assert code == 0 and len(out.splitlines()) == 5 and out.splitlines()[3].endswith(": too many moods")
    assert "neither a day" in run("history", "--on", "someday")[2]


def test_what_was_promoted_but_not_named_is_rolled_back_to_what_is_named(desk: Stream, artefacts: Artefacts, run: Run):
    desk.redis.set(desk.keys.model, artefacts.second)  # as a promotion that died half-way leaves it
    code, out, _ = run("rollback", "--no-wait", "--json")
    assert code == 0 and json.loads(out)["before"] == artefacts.second
    assert state(desk) == (artefacts.first, artefacts.first)


def test_the_version_before_is_gone(desk: Stream, artefacts: Artefacts, run: Run):
    assert run("promote", artefacts.second, "--no-wait")[0] == 0
    (desk.models_dir / artefacts.first).rename(desk.folder / "gone")
    code, _, err = run("rollback", "--no-wait")
    assert code == 1 and f"no model '{artefacts.first}'" in err
    assert state(desk) == (artefacts.second, artefacts.second)


def test_nothing_to_roll_back_in_an_empty_registry(empty_desk: Stream, run: Run):
    code, _, err = run("rollback", "--no-wait")
    assert code == 1 and "names no version yet" in err and "Traceback" not in err


def test_a_worse_challenger_needs_force_and_a_reason(empty_desk: Stream, run: Run):
    good, worse = measured(empty_desk, 5, 0.5), measured(empty_desk, 6, 0.49)
    assert run("promote", good, "--no-wait")[0] == 0
    code, out, err = run("promote", worse, "--no-wait", "--json")
    assert code == 1 and out == "" and len(err.splitlines()) == 1
    assert f"{worse} is worse than the champion {good}" in err and "-0.0100" in err and "--force and --why" in err
    assert state(empty_desk) == (good, good)
    assert not empty_desk.redis.exists(empty_desk.keys.live(worse)), "nothing was written"

    code, _, err = run("promote", worse, "--force", "--no-wait")
    assert code == 1 and "takes a reason" in err and state(empty_desk) == (good, good)
    code, out, err = run("promote", worse, "--force", "--why", "the good one leaks", "--no-wait", "--json")
    assert code == 0 and json.loads(out)["comparison"]["worse"] is True
    assert state(empty_desk) == (worse, worse)
    reason = Registry(empty_desk.models_dir).changes("champion")[-1].why
    assert reason.startswith("the good one leaks (forced: weighted F1 0.4900 against")
    code, out, _ = run("promote", good, "--no-wait", "--json")
    assert code == 0 and json.loads(out)["comparison"]["worse"] is False

    drawn = np.random.default_rng(1).normal(0.499, 0.01, RESAMPLES).tolist()  # of artists that suit it otherwise
    lower = measured(empty_desk, 7, 0.499, resamples=drawn)
    assert run("promote", lower, "--no-wait")[0] == 0, "lower, but within the noise"


def test_models_without_common_figures_are_measured_on_data(empty_desk: Stream, run: Run, tmp_path):
    data = write_dataset(tmp_path / "data" / "val", make_dataset(200)).parent
    network = artifact.fixed_network(SMALL, "upstream")
    good, bad = (
        artifact.new_artifact(network, SMALL, dict.fromkeys(SMALL.tags, threshold), empty_desk.models_dir)
        for threshold in (0.5, 0.999)
    )
    assert run("promote", good, "--no-wait")[0] == 0
    code, out, err = run("promote", bad, "--data", data, "--no-wait", "--json")
    assert code == 1 and out == "" and f"on {data}" in err and state(empty_desk) == (good, good)
    assert run("promote", bad, "--no-wait")[0] == 0, "without data nobody can tell"
    code, out, _ = run("promote", good, "--data", data, "--no-wait", "--json")
    found = json.loads(out)["comparison"]
    assert code == 0 and found["tracks"] == 200 and found["low"] > 0
    weights = empty_desk.models_dir / good / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = run("promote", bad, "--data", data, "--no-wait")
    assert code == 0 and "is truncated" in " ".join(err.split()), "a damaged champion stands in nobody's way"


@pytest.mark.parametrize("learnt", ["good", "other"])
def test_data_that_one_of_them_learnt_from_is_refused(empty_desk: Stream, run: Run, tmp_path, learnt: str):
    dataset = make_dataset(50)
    data = write_dataset(tmp_path / "data", dataset)
    network, golden = artifact.fixed_network(SMALL, "upstream"), dataset.probabilities[:4]
    made = {
        name: artifact.write(
            network,
            SMALL,
            dict.fromkeys(SMALL.tags, threshold),
            empty_desk.models_dir,
            golden_inputs=golden,
            about={"data": {"fingerprint": dataset.fingerprint() if name == learnt else "another"}},
        )
        for name, threshold in (("good", 0.5), ("other", 0.6))
    }
    assert run("promote", made["good"], "--no-wait")[0] == 0
    code, out, err = run("promote", made["other"], "--data", data, "--no-wait")
    assert code == 1 and out == "" and f"{data} is what {made[learnt]} was trained on" in err
    assert state(empty_desk) == (made["good"], made["good"])
    code, _, err = run("promote", made["other"], "--data", data, "--force", "--why", "a trial", "--no-wait")
    assert code == 0 and state(empty_desk) == (made["other"], made["other"])


def test_of_two_who_promote_at_once_one_is_told_or_both_agree(desk: Stream, artefacts: Artefacts):
    """Redis and the alias never end up with different models; who weighed against a champion that is gone is told."""
    admins = [ThresholdsAdmin(desk.settings, name) for name in ("ann", "bob")]
    for _ in range(10):
        threads = [
            threading.Thread(target=admin.promote, args=(version, "race"))
            for admin, version in zip(admins, (artefacts.first, artefacts.second), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert state(desk)[0] == state(desk)[1]
    registry = Registry(desk.models_dir)
    weighed = promotion.weigh(admins[0], registry, artefacts.first)
    other = artefacts.second if weighed.champion == artefacts.first else artefacts.first
    weighed = promotion.weigh(admins[0], registry, other)
    third = measured(desk, 8, 0.5)
    admins[1].promote(third, "meanwhile")
    with pytest.raises(OpsError, match=f"somebody else promoted {third}"):
        promotion.promote(admins[0], weighed, "")
    assert state(desk) == (third, third)


def test_a_damaged_challenger_changes_nothing(desk: Stream, artefacts: Artefacts, run: Run):
    weights = desk.models_dir / artefacts.second / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = run("promote", artefacts.second, "--no-wait")
    assert code == 1 and "truncated" in err and len(err.splitlines()) == 1
    assert state(desk) == (artefacts.first, artefacts.first)


def test_an_alias_that_cannot_be_written_is_told_and_mended_by_repeating(
    desk: Stream, artefacts: Artefacts, monkeypatch
):
    admin = ThresholdsAdmin(desk.settings, "test")

    def refuse(*_: object) -> None:
        raise ModelError("The alias 'champion' cannot be written: No space left on device.")

    with monkeypatch.context() as patched, pytest.raises(OpsError, match=r"the alias does not: .*No space.*repeat"):
        patched.setattr(Registry, "_set_alias", refuse)
        admin.promote(artefacts.second, "on a full disk")
    assert state(desk) == (artefacts.second, artefacts.first)
    admin.promote(artefacts.second, "room again")
    assert state(desk) == (artefacts.second, artefacts.second)
