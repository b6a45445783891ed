"""`tagstream models show` and `history` without Redis: what upstream needs to know, and who named what."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from model.artifact import fixed_network, new_artifact
from model.manifest import MANIFEST, WEIGHTS
from model.registry import HISTORY, Registry
from ops.cli import main as cli
from tests.model_data import SMALL


@pytest.fixture
def registry(tmp_path) -> Registry:
    for seed in (0, 1):
        thresholds = dict.fromkeys(SMALL.tags, 0.4)
        new_artifact(fixed_network(SMALL, seed=seed), SMALL, thresholds, tmp_path / "models", seed=seed)
    return Registry(tmp_path / "models")


@pytest.fixture
def run(monkeypatch, capsys, registry):
    """Run one command of `models`; returns exit code, stdout, stderr."""
    monkeypatch.setenv("TAGSTREAM_MODELS_DIR", str(registry.models_dir))

    def call(*words: str):
        monkeypatch.setattr(sys, "argv", ["tagstream", "models", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return call


def test_the_vocabulary_is_what_events_are_ordered_by(run, registry):
    version = registry.versions()[0]
    code, out, _ = run("show", version, "--vocabulary", "--json")
    shown = json.loads(out)
    assert code == 0 and shown == {
        "model": version, "fingerprint": SMALL.fingerprint, "vocabulary": SMALL.to_dict()
    }  # fmt: skip
    code, out, _ = run("show", version, "--vocabulary")
    assert code == 0 and SMALL.fingerprint in out
    names = [line.split("\u2502")[1:4] for line in out.splitlines() if "\u2502" in line]
    rows = [[cell.strip() for cell in row] for row in names]
    assert rows == [
        ["genres.tags", "0", "rock"], ["genres.tags", "1", "jazz"], ["genres.tags", "2", "techno"],
        ["genres.categories", "0", "loud"], ["genres.categories", "1", "soft"],
        ["instruments.tags", "0", "piano"], ["instruments.tags", "1", "drums"],
        ["moods.tags", "0", "calm"], ["moods.tags", "1", "wild"], ["moods.categories", "0", "arousal"],
    ]  # fmt: skip


def test_history_says_who_named_what_and_what_never_took_effect(run, registry):
    first, second = registry.versions()
    registry.set_alias("champion", first, "ann", "the first")
    registry.set_alias("challenger", second, "bob", "to compare")
    with (registry.models_dir / HISTORY).open("a") as history:  # as a crash leaves it
        line = {"at": "2026-11-22T10:00:00+00:00", "alias": "champion", "before": first, "after": second,
                "action": "promote", "who": "eve", "why": "crashed"}  # fmt: skip
        history.write(json.dumps(line) + "\n")
    code, out, err = run("history")
    assert (
        code == 0
        and out.count("\n") == 1
        and out.startswith(first)
        and out.endswith("until now  set by ann: the first\n")
    )
    assert f"promote of {second} by eve never took effect" in " ".join(err.split())
    code, out, _ = run("history", "--json")
    assert [change["took_effect"] for change in json.loads(out)["changes"]] == [True, False]
    code, out, _ = run("history", "--alias", "challenger", "--json")
    assert code == 0 and [period["why"] for period in json.loads(out)["periods"]] == ["to compare"]
    code, out, err = run("history", "--alias", "chmpion")
    assert code == 1 and out == "" and "no alias 'chmpion'" in err and "did you mean champion?" in err
    code, out, err = run("history", "--alias", "../x")
    assert code == 1 and "is not an alias" in err and out == ""


SPOILT = {
    "corrupted": (lambda mine, other: flip(mine / WEIGHTS), "is corrupted: its checksum is not the manifest's"),
    "truncated": (lambda mine, other: cut(mine / WEIGHTS), "is truncated or altered"),
    "half a manifest": (lambda mine, other: cut(mine / MANIFEST), "is not JSON"),
    "another's weights": (lambda mine, other: shutil.copy(other / WEIGHTS, mine), "is corrupted"),
    "another's manifest": (lambda mine, other: shutil.copy(other / MANIFEST, mine), "says version"),
    "no model at all": (lambda mine, other: (mine / MANIFEST).write_text('{"a": 1}'), "is not a manifest of format"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_what_it_says_is_refused_in_one_sentence(run, registry, how):
    first, second = registry.versions()
    spoil, told = SPOILT[how]
    spoil(registry.models_dir / first, registry.models_dir / second)
    code, out, err = run("verify", first)
    assert code == 1 and out == "" and told in " ".join(err.split()) and "Traceback" not in err
    code, out, _ = run("list", "--json")
    assert code == 0 and {entry["model"] for entry in json.loads(out)["models"]} == {first, second}
    assert run("verify", second)[0] == 0


@pytest.mark.parametrize("command", ["list", "show", "history", "promote", "rollback", "verify"])
def test_help_has_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and "Example: tagstream models" in out
